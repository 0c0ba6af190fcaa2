"""Rows of generated images: what the clock encloses, what is copied, and that the last answer is its batch's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import Case, Duration, mode_of_kind
from harness.measure.generated import measure_generated
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog
from models.tasks import WrongAnswers
from selftests.inside import TINY

SPEC = find_spec(TINY, load_catalog())
ROUNDS = Duration(0.0, None, 12, 12)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    artefacts = Artefacts(ArtefactCache(tmp_path_factory.mktemp("cache")), lambda: generated_calibration(SPEC, 16))
    case = Case(TINY, "cpu", "fp32", 2, "eager", settings=("u8",))
    ready = prepare(case, SPEC, "random", References(SPEC, "random"), artefacts=artefacts)
    yield ready
    ready.close()


class Watching:
    """Passes everything on, and notes what is done in a round."""

    def __init__(self, runner, done):
        self._runner, self._done = runner, done

    def __getattr__(self, name):
        def call(*arguments):
            self._done.append(name)
            return getattr(self._runner, name)(*arguments)

        return call


def clock(done):
    def timed(kind, target, next_arguments, batches=None):
        times = []
        while (arguments := next_arguments(0.01 * len(times))) is not None:
            done.append("clock starts")
            target(*arguments)
            done.append("clock stops")
            times.append(0.01)
        return times

    return timed


def test_a_round_is_from_the_copy_in_to_the_answer_out(prepared):
    done = []
    watched = replace(prepared, runner=Watching(prepared.runner, done))
    found = measure_generated(watched, ROUNDS, clock(done))
    assert done[:6] == ["clock starts", "put", "submit", "synchronize", "fetch", "clock stops"]
    assert (found.rounds, found.images) == (12, 24)
    assert found.images_per_second == pytest.approx(24 / 0.12)
    assert found.host_bytes_per_image == 3 * 160 * 160
    assert mode_of_kind(found.kind) == "generated"


def test_an_answer_to_another_batch_rings(prepared):
    class Stale(Watching):
        first = None

        def submit(self, batch):
            output = self._runner.submit(batch)
            if self._done[-1] != "put":  # not in a round
                return output
            self.first = output if self.first is None else self.first
            return self.first

    done = []
    with pytest.raises(WrongAnswers, match="the last answer of the rounds of generated images is wrong"):
        measure_generated(replace(prepared, runner=Stale(prepared.runner, done)), ROUNDS, clock(done))
