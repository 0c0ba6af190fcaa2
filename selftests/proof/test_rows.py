"""Every row of a batch is compared with the reference, however long the batch is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.cases import Case
from harness.engines.torch.runner import TorchRunner
from harness.measure.parity import measure_parity
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs, WrongAnswers
from selftests.inside import TINY

SPEC = find_spec(TINY, load_catalog())


def once(kind, target, next_arguments, batches=None):
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
    return [1.0]


def prepared(batch):
    return prepare(Case(TINY, "cpu", "fp32", batch, "eager"), SPEC, "random", References(SPEC, "random"))


def leave_out(monkeypatch, begin):
    """From this row on, an image gets the answer to the first one, as of an engine that computes no more."""
    fetch = TorchRunner.fetch

    def shortened(runner, output):
        found = fetch(runner, output)
        ends = (np.repeat(array[:1], max(0, len(array) - begin), axis=0) for array in found)
        return Outputs(
            found.names, (np.concatenate([array[:begin], end]) for array, end in zip(found, ends, strict=True))
        )

    monkeypatch.setattr(TorchRunner, "fetch", shortened)


@pytest.mark.parametrize(("batch", "begin", "rows"), [(20, 8, "8 to 15"), (20, 17, "12 to 19"), (16, 8, "8 to 15")])
def test_the_end_of_a_batch_that_was_left_out_denies_the_case(monkeypatch, batch, begin, rows):
    leave_out(monkeypatch, begin)
    ready = prepared(batch)
    with pytest.raises(WrongAnswers, match=f"rows {rows} of a batch: answers are"):
        ready.require_proof()
    ready.close()


@pytest.mark.parametrize("batch", [8, 20])
def test_a_whole_batch_is_right(batch):
    ready = prepared(batch)
    ready.require_proof()
    ready.close()


def test_parity_looks_at_every_row_of_a_batch_of_more_than_its_images(monkeypatch):
    ready = prepared(40)
    references = References(SPEC, "random")
    assert measure_parity(ready, references, once).sqnr_db > 60
    leave_out(monkeypatch, 32)
    with pytest.raises(WrongAnswers, match="rows 8 to 39 of a batch: answers are"):
        measure_parity(replace(ready), references, once)
    ready.close()
