"""From files to classes: order, short batches, bad files, labels, sampling."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.cases import Case, Duration
from harness.data import (
    ImageFile,
    NoImages,
    UnreadableImage,
    class_indices,
    decode,
    sample_images,
    write_generated_jpegs,
)
from harness.data.imagenet.folders import find_images
from harness.measure.end_to_end import bound_of, measure_end_to_end, top1
from harness.measure.pipeline import answers_of_files, stage_rates, workers
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog
from models.tasks import WrongAnswers
from models.tasks import classify as TASK
from selftests.inside import TINY, run_here
from selftests.logits import as_outputs


class BrightnessRunner:
    """Answers the class that an image's grey level names: a runner whose right answers are known."""

    def __init__(self, batch):
        self.batch = batch
        self.pending = None

    def put(self, images):
        assert len(images) == self.batch
        return images

    def submit(self, batch):
        self.pending = batch.mean(dim=(1, 2, 3)).mul(255).round().long()
        return self.pending

    def synchronize(self):
        pass

    def fetch(self, output):
        assert output is self.pending, "an output was fetched after the next submit"
        return as_outputs(np.eye(256, dtype=np.float32)[output.numpy()])


class Overwrites:
    """Has one place for images: the next batch is put where the one that runs is still read from."""

    def __init__(self, runner):
        self._runner = runner
        self.staged = None

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def put(self, images):
        if self.staged is None:
            self.staged = images.clone()
        self.staged.copy_(images)
        return self.staged

    def submit(self, batch):
        return batch

    def fetch(self, output):
        return self._runner.fetch(self._runner.submit(output))


def test_answers_that_a_later_batch_has_overwritten_ring(tmp_path):
    """The last batch is right, for nothing comes after it."""
    case = Case(TINY, "cpu", "fp32", 2, "eager")
    spec = find_spec(TINY, load_catalog())
    ready = prepare(case, spec, "random", References(spec, "random"))
    files = write_generated_jpegs(tmp_path, 8)

    def once(kind, target, next_arguments, batches):
        target()
        assert batches() == [4]
        return [1.0]

    duration = Duration(0.0, None, 1)
    with workers(1) as pool:
        assert measure_end_to_end(ready, files, "here", duration, pool, 1, once).images == 8
        broken = replace(ready, runner=Overwrites(ready.runner))
        with pytest.raises(WrongAnswers, match="the last answer of end to end is wrong"):
            measure_end_to_end(broken, files, "here", duration, pool, 1, once)
    ready.close()


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def classify(*arguments):
    """The class of each file, through the whole pipeline."""
    return [index for _, outputs in answers_of_files(*arguments) for index in TASK.decode(outputs)]


@pytest.fixture
def greys(tmp_path):
    files = []
    for index in range(23):
        path = tmp_path / f"{index:03d}.png"
        Image.new("RGB", (8, 8), (index * 10,) * 3).save(path)
        files.append(ImageFile(path, index * 10))
    return files


@pytest.mark.parametrize("batch", [1, 4, 23, 32])
@pytest.mark.parametrize("count", [1, 3])
def test_every_file_gets_its_own_class_whatever_batch_and_workers(greys, batch, count):
    shuffled = random.Random(1).sample(greys, len(greys))
    with workers(count) as pool:
        classes = classify(BrightnessRunner(batch), to_tensor, shuffled, batch, pool)
    assert classes == [file.label for file in shuffled]
    assert top1(shuffled, classes) == (23, 23)


@pytest.mark.parametrize(("has_own_threads", "seen"), [(True, 1), (False, 3)])
def test_torch_leaves_the_cores_to_a_library_with_threads_of_its_own(has_own_threads, seen, greys):
    """Torch's threads spin after the copy into a batch, and the library's would wait for the cores."""
    counts = []

    class Counting(BrightnessRunner):
        def put(self, images):
            counts.append(torch.get_num_threads())
            return super().put(images)

    runner, before = Counting(4), torch.get_num_threads()
    runner.has_own_threads = has_own_threads
    torch.set_num_threads(3)
    try:
        with workers(2) as pool:
            classify(runner, to_tensor, greys, 4, pool)
            assert torch.get_num_threads() == 3
            rates = stage_rates(runner, TASK, to_tensor, greys, 4, pool)
        assert set(rates) == {"decode", "preprocess", "copy", "model"}
    finally:
        torch.set_num_threads(before)
    assert set(counts) == {seen}


def test_time_that_is_up_ends_a_pass_between_batches(greys):
    with workers(2) as pool:
        assert classify(BrightnessRunner(4), to_tensor, greys, 4, pool, lambda: True) == [0, 10, 20, 30]


def test_the_next_batch_is_copied_while_the_device_computes_the_last(greys):
    """What is put after the wait would travel while nothing is computed, and the rate would be that of the copies."""
    done = []

    class Noting(BrightnessRunner):
        def put(self, images):
            done.append("put")
            return super().put(images)

        def submit(self, batch):
            done.append("submit")
            return super().submit(batch)

        def synchronize(self):
            done.append("wait")

    with workers(1) as pool:
        classify(Noting(8), to_tensor, greys, 8, pool)
    assert done == ["put", "submit", "put", "wait", "submit", "put", "wait", "submit", "wait"]


def test_stages_are_all_timed(greys):
    with workers(2) as pool:
        rates = stage_rates(BrightnessRunner(4), TASK, to_tensor, greys, 4, pool)
    assert set(rates) == {"decode", "preprocess", "copy", "model"}
    assert min(rates.values()) > 0


def test_a_stage_is_timed_warm_and_for_long_enough(greys):
    """By a clock that a first read of a file moves by 10 s, as a disk would, and every later one by 10 ms."""
    now_s, read = [0.0], set()

    def opener(file):
        def opened():
            now_s[0] += 0.01 if file in read else 10.0
            read.add(file)
            return file.path.read_bytes()

        return opened

    def moving(image):
        now_s[0] += 0.001
        return to_tensor(image)

    class Timed(BrightnessRunner):
        def put(self, images):
            now_s[0] += 0.1
            return super().put(images)

        def submit(self, batch):
            now_s[0] += 0.2
            return super().submit(batch)

    files = [ImageFile(file.path, file.label, file.path.name, opener(file)) for file in greys]
    with workers(1) as pool:
        rates = stage_rates(Timed(4), TASK, moving, files, 4, pool, clock=lambda: now_s[0])
    assert rates == {name: pytest.approx(rate) for name, rate in STAGES.items()}


# Images per second by the clock of the test above, whose batches are of 4.
STAGES = {"decode": 100, "preprocess": 1000, "copy": 40, "model": 20}


def test_the_bound_is_a_stage_of_the_slower_pair():
    """Decoding 100/s and preprocessing 120/s share their workers: 54/s together, below a model of 80/s."""
    assert bound_of({"decode": 100, "preprocess": 120, "copy": 5000, "model": 80}) == "decode"
    assert bound_of({"decode": 900, "preprocess": 400, "copy": 5000, "model": 80}) == "model"
    assert bound_of({"decode": 900, "preprocess": 400, "copy": 50, "model": 80}) == "copy"


def test_workers_leave_the_threads_as_they_were():
    before = torch.get_num_threads()
    with workers(2) as pool:
        list(pool.map(lambda _: torch.ones(4).sum(), range(4)))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_broken_file_is_named(tmp_path, damage):
    file = write_generated_jpegs(tmp_path, 1)[0]
    whole = file.path.read_bytes()
    file.path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not an image", "empty": b""}[damage])
    with pytest.raises(UnreadableImage, match="00000.JPEG"):
        decode(file)


def test_labels_come_from_all_thousand_wnids_not_from_the_folders(tmp_path):
    wnids = sorted(class_indices())
    assert len(wnids) == 1000
    for wnid in (wnids[999], wnids[3]):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / wnid / "a.JPEG")
    assert [file.label for file in find_images(tmp_path)] == [3, 999]


def test_a_folder_that_is_no_wnid_gives_no_label(tmp_path):
    (tmp_path / "zebra").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "zebra" / "a.jpg")
    assert [file.label for file in find_images(tmp_path)] == [None]


def test_an_empty_or_absent_folder_is_refused(tmp_path):
    with pytest.raises(NoImages, match="no images"):
        find_images(tmp_path)
    with pytest.raises(NoImages, match="no folder"):
        find_images(tmp_path / "absent")


def test_a_sample_is_seeded_and_not_the_first_classes():
    files = [ImageFile(Path(f"{index:05d}"), index // 50) for index in range(5000)]
    sample = sample_images(files, 100)
    assert sample == sample_images(files, 100)
    assert len({file.path for file in sample}) == 100
    assert len({file.label for file in sample}) > 40
    everything = sample_images(files, None)
    assert sorted(file.path for file in everything) == [file.path for file in files]
    assert len({file.label for file in everything[:100]}) > 40


def test_generated_files_stand_in_for_a_data_set():
    outcome = run_here(
        "tests_perf/test_end_to_end.py", "--dummy", "--model", TINY, "--engine", "eager", "--precision", "fp32",
        "--batch-size", "8", "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 0, outcome.text
    assert any(f"({stage})" in outcome.text for stage in ("decode", "preprocess", "copy", "model"))


def test_without_files_it_is_a_skip_that_names_data():
    outcome = run_here("tests_perf/test_end_to_end.py", "--model", TINY, "--engine", "eager", "--precision", "fp32")
    assert outcome.code == 5, "the file is named and measures nothing"
    assert "--data DIR" in outcome.text
    assert "passed" not in outcome.text


def test_a_broken_file_in_the_data_fails_naming_it(tmp_path):
    files = write_generated_jpegs(tmp_path, 4)
    files[2].path.write_bytes(files[2].path.read_bytes()[:500])
    outcome = run_here(
        "tests_perf/test_end_to_end.py", "--data", str(tmp_path), "--model", TINY, "--engine", "eager",
        "--weights", "random", "--precision", "fp32", "--batch-size", "2", "--device", "cpu",
    )  # fmt: skip
    assert outcome.code == 1
    assert "00002.JPEG" in outcome.text
