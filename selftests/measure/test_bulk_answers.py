"""A block is answered image by image as any other run would, and an engine that mixes answers up is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.cases import Case
from harness.data import UnreadableImage, write_generated_jpegs
from harness.measure.bulk.ahead import DecodingAhead
from harness.measure.bulk.blocks import cut_blocks
from harness.measure.bulk.classify import classify_block
from harness.measure.pipeline import answer_again, answers_of_files, workers
from harness.proof import References, case_pixels, prepare
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs, WrongAnswers, task_of
from selftests.inside import TINY

SPEC = find_spec(TINY, load_catalog())


@pytest.fixture(scope="module")
def prepared():
    ready = prepare(Case(TINY, "cpu", "fp32", 2, "eager"), SPEC, "random", References(SPEC, "random"))
    ready.require_proof()
    yield ready
    ready.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_generated_jpegs(tmp_path_factory.mktemp("images"), 10)


@pytest.fixture
def ahead():
    with workers(1) as pool:
        yield DecodingAhead(pool, 4)


class Wrapped:
    def __init__(self, runner):
        self._runner = runner

    def __getattr__(self, name):
        return getattr(self._runner, name)


class Lags(Wrapped):
    """Gives for each batch the answer to the one before."""

    before = None

    def submit(self, batch):
        now = self._runner.fetch(self._runner.submit(batch)).copy()
        before, self.before = self.before, now
        return before or now

    def fetch(self, output):
        return output


class Breaks(Wrapped):
    """Gives NaN."""

    def fetch(self, output):
        found = self._runner.fetch(output)
        return Outputs(found.names, (np.full_like(array, np.nan) for array in found))


def test_blocks_give_the_answers_of_one_long_run(prepared, files, ahead):
    task = task_of(SPEC)
    with workers(1) as pool:
        parts = answers_of_files(prepared.runner, task.transform(SPEC), files, 2, pool)
        whole = [str(one) for _, outputs in parts for one in task.decode(outputs)]
    found, last = [], []
    blocks = cut_blocks(files, 4)
    for at, block in enumerate(blocks):
        for following in blocks[at + 1 : at + 2]:
            ahead.expect(following.files)
        run = classify_block(prepared, block, ahead, last.append)
        found += run.predictions
        assert 0 < run.copy_s + run.model_s < run.busy_s
    assert found == whole
    answer_again(prepared, [last[-1]], "the bulk run")


def test_a_model_that_normalises_by_itself_is_given_bytes(files, ahead):
    """Its fp32 images would be normalised twice, and the answers repeat themselves when they are asked for again."""
    case = Case(TINY, "cpu", "fp32", 2, "eager", settings=("u8",))
    ready = prepare(case, SPEC, "random", References(SPEC, "random"))
    taken = []

    class Noting(Wrapped):
        def put(self, images):
            taken.append(images.dtype)
            return self._runner.put(images)

    with workers(1) as pool:
        parts = answers_of_files(ready.runner, case_pixels(case, SPEC), files, 2, pool)
        whole = [str(one) for _, outputs in parts for one in task_of(SPEC).decode(outputs)]
    last = []
    (block,) = cut_blocks(files, len(files))
    run = classify_block(replace(ready, runner=Noting(ready.runner)), block, ahead, last.append)
    answer_again(replace(ready, runner=Noting(ready.runner)), [last[-1]], "the bulk run")
    ready.close()
    assert list(run.predictions) == whole
    assert set(taken) == {torch.uint8}


def test_a_whole_batch_is_answered_again_also_where_the_block_ends_with_a_part_of_one(prepared, files, ahead):
    last = []
    (block,) = cut_blocks(files[:5], 5)
    classify_block(prepared, block, ahead, last.append)
    assert last[0].files == tuple(files[2:4])
    answer_again(prepared, [last[0]], "the bulk run")
    with pytest.raises(WrongAnswers):
        answer_again(prepared, [replace(last[0], files=tuple(files[:2]))], "the bulk run")


def test_torch_keeps_out_of_the_way_of_an_engine_with_threads_of_its_own(prepared, files, ahead):
    """Its threads would spin after each copy of images into a batch, and the engine's wait for the cores."""
    threads = []

    class OwnThreads(Wrapped):
        has_own_threads = True

        def submit(self, batch):
            threads.append(torch.get_num_threads())
            return self._runner.submit(batch)

    (block,) = cut_blocks(files, len(files))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        classify_block(replace(prepared, runner=OwnThreads(prepared.runner)), block, ahead)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_an_engine_that_answers_for_the_batch_before_is_found_out_at_the_end(prepared, files, ahead):
    lagging = replace(prepared, runner=Lags(prepared.runner))
    last = []
    classify_block(lagging, cut_blocks(files, 10)[0], ahead, last.append)
    with pytest.raises(WrongAnswers, match="the last answer of the bulk run is wrong"):
        answer_again(replace(prepared, runner=prepared.runner), [last[-1]], "the bulk run")


def test_answers_that_are_no_numbers_are_no_predictions(prepared, files, ahead):
    broken = replace(prepared, runner=Breaks(prepared.runner))
    with pytest.raises(WrongAnswers, match="answers to images of block 0, such as .*00000.JPEG, are NaN or infinite"):
        classify_block(broken, cut_blocks(files, 4)[0], ahead)


def test_a_file_that_is_no_image_is_named_or_left_out_and_counted(prepared, files, ahead, tmp_path):
    damaged = tmp_path / "damaged.JPEG"
    damaged.write_bytes(b"no image")
    block = cut_blocks([files[0], replace(files[1], path=damaged), files[2]], 4)[0]
    with pytest.raises(UnreadableImage, match=r"damaged\.JPEG"):
        classify_block(prepared, block, ahead)
    run = classify_block(prepared, block, ahead, skips_unreadable=True)
    assert [bool(one) for one in run.predictions] == [True, False, True]
    assert "damaged.JPEG" in run.unreadable[0]
