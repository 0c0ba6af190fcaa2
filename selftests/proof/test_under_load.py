"""Answers under load: an engine that is right one batch at a time, and wrong when batches are queued, is found out.

The tests run are the product's own, pytest inside pytest, with the engine eager replaced by one that lies.
"""

from __future__ import annotations

import pytest
import torch

from harness.cases import Case, Duration
from harness.engines import eager
from harness.jobs.spawn import open_jobs
from harness.jobs.stream import BuildInputs, stream_jobs
from models.catalog import find_spec, load_catalog
from models.tasks import WrongAnswers
from selftests.inside import TINY, Replacing, run_here
from selftests.sabotage import Sabotaged

LIES = "under load the engine drops work or overwrites outputs"


class Queue:
    """A true eager runner that counts how many batches were submitted since somebody waited."""

    def __init__(self, runner):
        self._runner = runner
        self.waiting = 0
        self.output = None

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def synchronize(self):
        self.waiting = 0
        self._runner.synchronize()

    def fetch(self, output):
        self.waiting = 0
        return self._runner.fetch(output)


class DropsEveryThird(Queue):
    """Drops every third batch that is submitted while work is queued, as a queue that is too short does."""

    def submit(self, batch):
        self.waiting += 1
        if self.waiting % 3:
            self.output = self._runner.submit(batch)
        return self.output


class AnswersTheOneBefore(Queue):
    """Gives a batch that is queued behind another the answer to that one."""

    def submit(self, batch):
        self.waiting += 1
        before, self.output = self.output, self._runner.submit(batch)
        return before if self.waiting > 1 else self.output


class FallsBehind(Queue):
    """Falls one batch behind when nobody fetches an answer for a while, as two buffers that get out of step do."""

    unfetched = 0

    def submit(self, batch):
        self.unfetched += 1
        before, self.output = self.output, self._runner.submit(batch)
        return before if self.unfetched > 3 else self.output

    def fetch(self, output):
        self.unfetched = 0
        return super().fetch(output)


class CopiesLate(Queue):
    """Starts before the copy of the images has arrived, unless somebody waits in between."""

    is_copying = False

    def put(self, images):
        self.is_copying = True
        return self._runner.put(images)

    def submit(self, batch):
        late, self.is_copying = self.is_copying, False
        return self._runner.submit(torch.zeros_like(batch) if late else batch)

    def synchronize(self):
        self.is_copying = False
        super().synchronize()


def measured(kind, test, *more):
    return run_here(
        f"tests_perf/{test}.py",
        *("--model", TINY, "--engine", "eager", "--precision", "fp32", "--batch-size", "4", "--device", "cpu"),
        *("--min-test-duration", "0.1", *more),
        plugin=Replacing("eager", lambda *arguments: kind(eager.build(*arguments))),
    )


@pytest.mark.parametrize(
    ("kind", "test", "where"),
    [
        (DropsEveryThird, "test_throughput", ""),
        (AnswersTheOneBefore, "test_throughput", "the last answer of a throughput window"),
        (FallsBehind, "test_latency", "the last answer of the latency rounds"),
        (CopiesLate, "test_scenarios", "the last answer of LoadGen's single_stream (run)"),
    ],
)
def test_work_that_is_dropped_or_overwritten_rings(kind, test, where):
    outcome = measured(kind, test, *(("-k", "single_stream") if test == "test_scenarios" else ()))
    assert outcome.code == 1, outcome.text
    assert "1 failed" in outcome.text, outcome.text
    assert where in outcome.text, outcome.text
    assert LIES in outcome.text, outcome.text
    assert "visionmark ==" not in outcome.text, "a row was printed that was not proven"


@pytest.mark.slow
@pytest.mark.parametrize("test", ["test_throughput", "test_latency", "test_scenarios"])
def test_an_honest_engine_passes(test):
    outcome = measured(Queue, test, *(("-k", "single_stream") if test == "test_scenarios" else ()))
    assert outcome.code == 0, outcome.text
    assert "1 passed" in outcome.text


def test_one_answer_that_belongs_to_another_batch_is_named():
    outcome = measured(AnswersTheOneBefore, "test_throughput")
    assert ", and the answer to batch" in outcome.text, outcome.text


@pytest.mark.slow
def test_a_stream_that_falls_behind_rings(tmp_path):
    case = Case(TINY, "cpu", "fp32", 2, "eager", streams=2)
    spec = Sabotaged(find_spec(TINY, load_catalog()), "lags")
    with (
        pytest.raises(WrongAnswers, match=LIES),
        open_jobs(stream_jobs(case, spec, BuildInputs("random", tmp_path)), lambda text: None) as streams,
    ):
        streams.run(Duration(min_s=0.1, max_s=None, min_rounds=8))
