"""A bulk run's files and record: each image once on disk, one common window, who was slow and what a death cost."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from harness.data import ImageFile
from harness.measure.bulk.ahead import DecodingAhead
from harness.measure.bulk.blocks import batches_of_block, cut_blocks
from harness.measure.bulk.classify import BlockRun
from harness.measure.bulk.predictions import LostPredictions, OtherRun, PredictionFolder, count_kept
from harness.measure.bulk.record import bulk_of, slow_workers
from harness.measure.bulk.run import measure_bulk
from harness.measure.bulk.shifts import HandedOut, Loss, Shift, Turn

FILES = [ImageFile(Path(f"{index}.JPEG"), index % 3) for index in range(10)]
BLOCKS = cut_blocks(FILES, 4)
LABEL = {"images": 10, "identity": {"weights_sha256": "a"}}
ABOUT = {
    **{"batch": 2, "labels": 1000, "is_random": False, "workers": 2, "launcher": "spawn", "nodes": ("here",)},
    **{"images_per_block": 4, "batches_per_step": 2, "decoders": 1, "data": "here", "folder": "there"},
}


def answers(block):
    return [str(file.label) for file in block.files]


def filled(folder, blocks=BLOCKS):
    for block in blocks:
        folder.keep(block, answers(block))
    return folder


def test_blocks_hold_every_image_once_in_order():
    assert [block.size for block in BLOCKS] == [4, 4, 2]
    assert [file for block in BLOCKS for file in block.files] == FILES


@pytest.mark.parametrize(("batch", "batches"), [(1, 32), (6, 6), (8, 4), (128, 4)])
def test_a_block_has_enough_images_and_some_batches(batch, batches):
    assert batches_of_block(batch) == batches


def test_predictions_are_merged_in_the_order_of_the_images_whoever_was_first(tmp_path):
    folder = filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False), reversed(BLOCKS))
    assert folder.merge() == [str(file.label) for file in FILES]
    lines = (folder.path / "predictions.csv").read_text().splitlines()
    assert lines[:3] == ["filename,actual,prediction", "0.JPEG,0,0", "1.JPEG,1,1"]
    assert len(lines) == 11
    assert count_kept(folder.path) == (3, True)


def remove(folder):
    (folder.path / "predictions-00001.csv").unlink()


def repeat_a_row(folder):
    path = folder.path / "predictions-00001.csv"
    path.write_text(path.read_text() + "4.JPEG,1,1\n")


def copy_another(folder):
    path = folder.path / "predictions-00001.csv"
    path.write_text((folder.path / "predictions-00000.csv").read_text())


def leave_a_half(folder):
    (folder.path / ".predictions-00002.csv.77.part").write_text("filename,act")


def add_a_block(folder):
    (folder.path / "predictions-00009.csv").write_text("filename,actual,prediction\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove, "block 1 are lost"),
        (repeat_a_row, "5 rows that are not, one for one, the 4 images of block 1"),
        (copy_another, "not, one for one"),
        (leave_a_half, "1 unfinished"),
        (add_a_block, "4 files of 3 blocks"),
    ],
)
def test_what_is_missing_double_foreign_or_half_on_disk_is_found(damage, words, tmp_path):
    folder = filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False))
    damage(folder)
    with pytest.raises(LostPredictions, match=words):
        folder.merge()


def test_a_block_with_too_few_predictions_is_not_kept(tmp_path):
    folder = PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False)
    with pytest.raises(LostPredictions, match="block 0 has 4 images, and 3 predictions came"):
        folder.keep(BLOCKS[0], ["1", "2", "3"])
    assert count_kept(folder.path) == (0, False)


def test_a_run_that_was_broken_off_goes_on_with_the_blocks_that_are_missing(tmp_path):
    filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False), BLOCKS[:1])
    again = PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=True)
    assert again.kept() == BLOCKS[:1]
    anew = PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False)
    assert anew.kept() == []


@pytest.mark.parametrize("change", [{"images": 11}, {"identity": {"weights_sha256": "b"}}, {"more": 1}])
def test_blocks_of_another_run_are_refused_by_what_differs(change, tmp_path):
    filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False), BLOCKS[:1])
    with pytest.raises(OtherRun, match=f"1 blocks of another run: its {next(iter(change))} was"):
        PredictionFolder(tmp_path / "run", BLOCKS, {**LABEL, **change}, resumes=True)


def test_blocks_without_a_manifest_are_nobodys(tmp_path):
    folder = filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False))
    (folder.path / "manifest.json").unlink()
    with pytest.raises(OtherRun, match=r"3 blocks and no manifest\.json"):
        PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=True)


def run_of(block, busy_s=1.0):
    return BlockRun(tuple(answers(block)), (), busy_s, 0.1 * busy_s, 0.6 * busy_s)


def shift(name, turns, until_s=10.0):
    return Shift(name, f"host of {name}", 0.0, until_s, turns)


def turn(block, given_s, done_s):
    return Turn(block.index, block.size, given_s, done_s, run_of(block, done_s - given_s))


def test_the_rate_is_all_images_over_the_common_window_and_not_a_sum_of_own_rates():
    handed = HandedOut(
        0.0,
        10.0,
        [
            shift("worker 1", [turn(BLOCKS[0], 0.0, 1.0), turn(BLOCKS[2], 1.0, 1.5)]),
            shift("worker 2", [turn(BLOCKS[1], 0.0, 10.0)]),
        ],
        [],
    )
    record = bulk_of(handed, FILES, [str(file.label) for file in FILES], ABOUT)
    assert record.images_per_second == 1.0, "the sum of own rates would be 4.4"
    assert sum(one["images_per_second"] for one in record.each) == pytest.approx(1.0)
    assert record.slow_workers == ("worker 2",)
    assert record.idle_pct == pytest.approx(100 * 8.5 / 20)
    assert record.decode_pct + record.copy_pct + record.model_pct + record.idle_pct == pytest.approx(100)
    assert record.bound == "idle"
    assert record.top1_pct == 100
    assert record.batches == 5
    assert record.images_per_second_low is None, "three blocks show no scatter"


def test_the_record_says_what_a_death_cost():
    handed = HandedOut(
        0.0,
        10.0,
        [shift("worker 1", [turn(block, 0.0, 9.0) for block in BLOCKS])],
        [Loss("worker 2", "died", 4.0, 4, 7.0)],
    )
    record = bulk_of(handed, FILES, [str(file.label) for file in FILES], ABOUT)
    assert record.repeated_images == 4
    assert record.short_handed_s == 3.0
    assert record.lost[0]["replaced_after_s"] == 3.0


@pytest.mark.parametrize(
    ("about", "files", "note"),
    [
        ({"is_random": True}, FILES, "random"),
        ({"labels": 10}, FILES, "10 classes"),
        ({}, [ImageFile(file.path, None) for file in FILES], "no labels"),
    ],
)
def test_an_accuracy_that_means_nothing_is_not_printed(about, files, note):
    handed = HandedOut(0.0, 10.0, [shift("worker 1", [turn(block, 0.0, 9.0) for block in BLOCKS])], [])
    record = bulk_of(handed, files, ["1"] * 10, {**ABOUT, **about})
    assert record.top1_pct is None
    assert note in record.top1_note


class Threads:
    """A pool that does what it is given at once, and remembers the order."""

    def __init__(self):
        self.order = []

    def submit(self, fn, file):
        self.order.append(file.name)
        future = Future()
        future.set_result(fn(file))
        return future


def test_the_first_images_of_the_next_block_are_decoded_behind_the_last_of_this_one_and_once():
    threads = Threads()
    ahead = DecodingAhead(threads, 2)
    for block, following in zip(BLOCKS, [*BLOCKS[1:], None], strict=True):
        ahead.begin(block.files)
        if following is not None:
            ahead.expect(following.files)
        found = [ahead.submit(lambda file: file.name, file).result() for file in block.files]
        assert found == [file.name for file in block.files]
        if following is not None:
            assert threads.order[-2:] == [file.name for file in following.files[:2]]
    assert threads.order == [file.name for file in FILES], "each once"


def test_equal_workers_are_not_called_slow():
    each = [{"name": name, "busy_images_per_second": rate} for name, rate in (("a", 10.0), ("b", 9.0), ("c", None))]
    assert slow_workers(each) == ()


class OneWorker:
    """A crew that answers everything at once, or all but the last block, or one of them twice."""

    def __init__(self, sabotage=None):
        self.sabotage, self.is_finished = sabotage, False

    def run(self, pieces, keep):
        done = list(pieces)
        if self.sabotage == "forgets":
            done.pop()
        if self.sabotage == "repeats":
            done.append(done[0])
        turns = []
        for at, block in enumerate(done):
            keep(block, "worker 1", run_of(block))
            turns.append(turn(block, float(at), at + 1.0))
        return HandedOut(0.0, float(len(done)), [shift("worker 1", turns, float(len(done)))], [])

    def finish(self):
        self.is_finished = True


def once(kind, target, following, batches=None):
    while following(0.0) is not None:
        target()
    return [1.0]


def measured(tmp_path, crew, resumes=False):
    folder = PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=resumes)
    return measure_bulk(crew, BLOCKS, folder, ABOUT, once, lambda done, total, text: None)


def test_a_run_keeps_logs_counts_and_checks(tmp_path):
    crew = OneWorker()
    record = measured(tmp_path, crew)
    assert crew.is_finished
    assert (record.images, record.predictions, record.kept_images) == (10, 10, 0)
    log = (tmp_path / "run" / "logs" / "worker-1.log").read_text()
    assert log.count("images/s (decode 30%, copy 10%, model 60%)") == 3
    assert "10 images, 3.33 images/s of the common window" in log


def test_a_resumed_run_measures_what_was_missing_and_counts_all(tmp_path):
    filled(PredictionFolder(tmp_path / "run", BLOCKS, LABEL, resumes=False), BLOCKS[:1])
    record = measured(tmp_path, OneWorker(), resumes=True)
    assert (record.images, record.predictions, record.kept_images) == (6, 10, 4)
    assert record.images_per_second == 6 / 2.0


@pytest.mark.parametrize(
    ("sabotage", "words"), [("forgets", "2 results came for 3"), ("repeats", "4 results came for 3")]
)
def test_a_crew_that_forgets_or_repeats_a_block_is_found_out(sabotage, words, tmp_path):
    with pytest.raises(LostPredictions, match=words):
        measured(tmp_path, OneWorker(sabotage))
