"""The accuracy gate: green only when it has measured, and red in the right words.

The network is timm's smallest with weights in a file; the images are labelled with its own answers, so that what it
should get right is known.
"""

import io
import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data import DataSet, ImageFile, class_indices, write_generated_jpegs
from harness.engines import eager
from harness.measure.accuracy.judge import Gate, judge
from harness.measure.accuracy.run import Sample, answer
from harness.measure.pipeline import workers
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.preprocess import build_transform, generated_images
from models.tasks import WrongAnswers, classify
from selftests.inside import TINY, Replacing, run_command, run_here
from selftests.logits import as_outputs

WNIDS = sorted(class_indices())
IMAGES = 320


class Answering:
    """A runner that answers each image's own class: the grey level that its file was made of."""

    def __init__(self, batch, change=lambda logits: logits):
        self.batch, self.change, self.seen = batch, change, 0

    def put(self, images):
        assert len(images) == self.batch
        return images

    def submit(self, batch):
        logits = np.zeros((len(batch), 1000), dtype=np.float32)
        for row, image in enumerate(batch):
            logits[row, int(image.mean() * 255 + 0.5)] = 1
        return as_outputs(self.change(logits))

    def synchronize(self):
        pass

    def fetch(self, output):
        return output


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def silent(done, total, text):
    pass


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("greys")
    images = []
    for level in range(50):
        path = folder / f"{level:03d}.png"
        Image.new("RGB", (8, 8), (level,) * 3).save(path)
        images.append(ImageFile(path, level))
    return images


def answered(images, batch=8, count=2, change=lambda logits: logits):
    with workers(count) as pool:
        return answer(Answering(batch, change), classify, to_tensor, images, batch, pool, silent)


@pytest.mark.parametrize("batch", [1, 8, 50, 64])
@pytest.mark.parametrize("count", [1, 3])
def test_order_batch_and_workers_never_change_which_image_gets_which_class(greys, batch, count):
    shuffled = random.Random(batch).sample(greys, len(greys))
    answers = answered(shuffled, batch, count)
    assert [int(top[0]) for top in answers.top] == [image.label for image in shuffled]
    assert answers.is_read().all()


def test_a_run_tells_that_it_begins_so_that_its_rate_counts_the_first_batch(greys):
    told = []
    with workers(1) as pool:
        answer(Answering(8), classify, to_tensor, greys, 8, pool, lambda done, total, text: told.append((done, total)))
    assert told == [(done, 50) for done in (0, 8, 16, 24, 32, 40, 48, 50)]


@pytest.mark.parametrize("batch", [1, 8])
def test_an_unreadable_file_is_left_out_and_shifts_no_other(greys, tmp_path, batch):
    bad = ImageFile(tmp_path / "bad.JPEG", 7)
    bad.path.write_bytes(greys[0].read()[:20])
    images = [*greys[:9], bad, *greys[9:]]
    answers = answered(images, batch)
    assert "bad.JPEG" in answers.unreadable[0]
    assert [int(top[0]) for top in answers.top] == [*range(9), -1, *range(9, 50)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: logits * np.float32("nan"), "000.png are NaN or infinite"),
        (lambda logits: logits * 0 + 1, "all 50 images get the same logits"),
        (lambda logits: logits[:, :10], "labels are of 1000 classes"),
    ],
)
def test_logits_that_say_nothing_are_refused(greys, change, words):
    with pytest.raises(WrongAnswers, match=words):
        answered(greys, change=change)


def test_top_five_counts_a_label_among_the_first_five_only(greys):
    def behind(logits, places):
        for row in logits:
            label = int(row.argmax())
            row[:] = 0
            ahead = [(label + 1 + step) % 1000 for step in range(places)]
            row[ahead] = np.arange(places, 0, -1) + 1
            row[label] = 1
        return logits

    spec = find_spec("mobilenetv2_100", load_catalog())
    sample = Sample(DataSet("set", "folder", tuple(greys), False), greys, 0)
    for places, top1, top5 in ((0, 100, 100), (1, 0, 100), (4, 0, 100), (5, 0, 0)):
        answers = answered(greys, change=lambda logits, places=places: behind(logits, places))
        accuracy = judge(answers, None, sample, spec, Gate(), 2).accuracy
        assert (accuracy.top1.pct, accuracy.top5.pct) == (top1, top5)


def test_the_published_floor_applies_to_the_validation_set_alone(greys):
    spec = find_spec("mobilenetv2_100", load_catalog())
    answers = answered(greys)
    for is_validation_set, floor in ((True, 72.910 * 0.99), (False, None)):
        sample = Sample(DataSet("set", "folder", tuple(greys), is_validation_set), greys, 0)
        accuracy = judge(answers, None, sample, spec, Gate(), 2).accuracy
        assert (accuracy.top1_floor and accuracy.top1_floor.pct) == (floor and pytest.approx(floor))
        assert accuracy.absolute == ("holds" if floor else "not gated")
    own = judge(answers, None, sample, spec, Gate(min_top1_pct=40.0), 2).accuracy
    assert own.top1_floor.terms == "by --min-top1"


def test_images_that_only_the_reference_could_not_read_are_no_gain(greys):
    """As wrong answers of the reference they would make up for what the candidate has lost."""
    spec = find_spec("mobilenetv2_100", load_catalog())
    sample = Sample(DataSet("set", "folder", tuple(greys), False), greys, 0)
    answers = answered(greys)
    top = answers.top.copy()
    top[0] = -1
    lacking = replace(answers, top=top, unreadable=("a.jpg: gone",))
    with pytest.raises(
        WrongAnswers, match="the fp32 CPU reference could not read 1 images .*run it again.*a.jpg: gone"
    ):
        judge(answers, lacking, sample, spec, Gate(skip_corrupt=True), 2)
    assert judge(lacking, lacking, sample, spec, Gate(skip_corrupt=True), 2).accuracy.paired.verdict == "holds"
    assert judge(lacking, answers, sample, spec, Gate(skip_corrupt=True), 2).accuracy.unreadable_images == 1


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Weights in a file, and a folder of small images labelled with the answers of the network that has them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("labelled")
    spec = find_spec(TINY, load_catalog())
    module = build_module(spec, "random").module
    save_file(module.state_dict(), folder / "weights.safetensors")
    transform = build_transform(spec)
    for index, pixels in enumerate(generated_images(IMAGES, spec.input.size)):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        encoded = io.BytesIO()
        image.save(encoded, format="JPEG", quality=92)
        decoded = Image.open(encoded).convert("RGB")
        with torch.inference_mode():
            label = int(module(transform(decoded)[None]).argmax())
        place = folder / "data" / WNIDS[label]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:05d}.JPEG").write_bytes(encoded.getvalue())
    assert len(list((folder / "data").iterdir())) > 10, "too few classes to tell a permutation by"
    return folder


def gate_run(labelled, *arguments, data="data", engine="eager", plugin=None, file=True):
    weights = ("--weights", str(labelled / "weights.safetensors")) if file else ()
    return run_here(
        *("tests_accuracy/test_imagenet.py", "--model", TINY, "--device", "cpu", "--precision", "fp32"),
        *("--engine", engine, *weights, "--data", str(labelled / data)),
        *arguments,
        plugin=plugin,
    )


def records(path):
    return [row["extra_info"] for row in json.loads(path.read_text())["benchmarks"]]


@pytest.mark.slow
def test_a_gate_that_holds_passes_and_records(labelled, tmp_path):
    outcome = gate_run(
        labelled,
        "--min-top1",
        "99",
        "--min-top5",
        "99",
        "--benchmark-json",
        str(tmp_path / "out.json"),
        engine="eager,trace,openvino",
    )
    assert outcome.code == 0, outcome.text
    rows = {row["case"]: row for row in records(tmp_path / "out.json")}
    assert len(rows) == 3
    for case, row in rows.items():
        assert (row["top1"]["pct"], row["images"], row["absolute"]) == (100.0, IMAGES, "holds")
        assert "-bs32-" in case
        assert row["images_per_second"] == pytest.approx(IMAGES / row["wall_s"])
        if case.endswith("eager"):
            assert row["paired"] is None
        else:
            assert row["paired"]["verdict"] == "holds"
    assert len({row["sample_sha256"] for row in rows.values()}) == 1
    assert "floor 99.00% (by --min-top1) and 99.00% (by --min-top5): holds" in outcome.text
    assert re.search(r"bs32-eager: [\d,]+ of 320 images, top-1 100.00%, [\d.]+ images/s, \d+ s left", outcome.text)


def test_few_images_with_identical_answers_hold(labelled):
    outcome = gate_run(labelled, "--num-inputs", "8", engine="trace")
    assert outcome.code == 0, outcome.text
    assert "holds, for the answers to all 8 images are the same" in outcome.text


@pytest.mark.parametrize(("rank", "verdict"), [(None, "holds"), (0, "cannot tell"), (4, "cannot tell")])
def test_answers_are_identical_if_every_rank_of_every_image_is(greys, rank, verdict):
    def ranks(logits, rank=None):
        for row in logits:
            label = int(row.argmax())
            row[[(label + step) % 1000 for step in range(5)]] = [9, 8, 7, 6, 5]
        if rank is not None:  # the first image's class of this rank is another
            first = int(logits[0].argmax())
            logits[0, (first + rank) % 1000] = 0
            logits[0, (first + 500) % 1000] = 9 - rank
        return logits

    images = greys[:8]
    spec = find_spec("mobilenetv2_100", load_catalog())
    sample = Sample(DataSet("set", "folder", tuple(images), False), images, 0)
    reference = answered(images, change=ranks)
    paired = judge(answered(images, change=lambda one: ranks(one, rank)), reference, sample, spec, Gate(), 2).accuracy
    assert paired.paired.verdict == verdict
    assert paired.paired.is_identical == (rank is None)


def test_a_floor_that_is_missed_fails_and_still_records(labelled, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(labelled / "data", data)
    moved = sorted(data.rglob("*.JPEG"))[:100]
    (data / WNIDS[999]).mkdir(exist_ok=True)
    for path in moved:
        path.rename(data / WNIDS[999] / path.name)
    out = tmp_path / "out.json"
    outcome = gate_run(labelled, "--min-top1", "90", "--benchmark-json", str(out), data=data)
    assert outcome.code == 1, outcome.text
    row = records(out)[0]
    assert row["absolute"] == "fails"
    assert row["top1"]["pct"] < 90
    for words in (
        f"top-1 {row['top1']['pct']:.2f}% (",
        "is below the floor 90.00% (by --min-top1)",
        "classes that lost most: n15075141 toilet tissue: ",
        "to reproduce: pytest tests_accuracy/test_imagenet.py --model",
        f"320 images of 320 in {data}",
    ):
        assert words in outcome.text, outcome.text
    command = re.search(r"to reproduce: pytest (.*)", outcome.text)[1]
    again = run_command(*command.split())
    assert again.code == 1
    assert f"top-1 {row['top1']['pct']:.2f}% (" in again.text


def test_without_a_floor_it_says_that_nothing_is_gated(labelled):
    outcome = gate_run(labelled)
    assert outcome.code == 0
    assert "measured, not gated" in outcome.text


class Changed(Replacing):
    """The engine `trace` stands for eager with its last layer changed."""

    def __init__(self, change):
        def build(module, example, case, device, supplies):
            with torch.no_grad():
                change(module.get_classifier())
            return eager.build(module, example, replace(case, engine="eager"), device, supplies)

        super().__init__("trace", build)


def replace(case, **changes):
    import dataclasses

    return dataclasses.replace(case, **changes)


@pytest.fixture
def unlabelled_proof(monkeypatch):
    """The label of `trace` is not what these tests are about."""
    from harness.proof import preparation

    monkeypatch.setattr(preparation, "contradictions", lambda case, device, evidence: [])


def permute(layer):
    layer.weight.copy_(layer.weight.roll(1, dims=0))
    layer.bias.copy_(layer.bias.roll(1))


def test_permuted_rows_of_the_last_layer_fail_the_paired_gate(labelled, unlabelled_proof):
    outcome = gate_run(labelled, engine="trace", plugin=Changed(permute))
    assert outcome.code == 1, outcome.text
    assert re.search(r"\(3\d\d right to wrong, 0 wrong to right; .* margin 1.00: fails", outcome.text), outcome.text
    assert "classes that lost most" in outcome.text


def quantise(steps):
    def change(layer):
        scale = layer.weight.abs().max() / steps
        layer.weight.copy_((layer.weight / scale).round() * scale)

    return change


def test_a_last_layer_of_too_few_steps_fails_the_paired_gate(labelled, unlabelled_proof):
    outcome = gate_run(labelled, engine="trace", plugin=Changed(quantise(2)))
    assert outcome.code == 1
    assert re.search(r"margin 1.00: fails", outcome.text), outcome.text


@pytest.mark.slow
def test_a_small_loss_cannot_be_told_and_passes_only_if_that_is_allowed(labelled, unlabelled_proof):
    # class rows are scaled by up to 0.6%: a few images whose first two classes are near change sides
    def nudge(layer):
        layer.weight.mul_(1 + 0.006 * torch.sin(torch.arange(1000.0))[:, None])

    plugin = Changed(nudge)
    outcome = gate_run(labelled, engine="trace", plugin=plugin)
    assert outcome.code == 1
    found = re.search(r"\((\d+) right to wrong, 0 wrong to right; .*cannot tell", outcome.text)
    assert found, outcome.text
    assert "has 320" in outcome.text
    allowed = gate_run(labelled, "--allow-undecided", engine="trace", plugin=plugin)
    assert allowed.code == 0, allowed.text
    assert "cannot tell" in allowed.text


@pytest.mark.slow
def test_int8_is_calibrated_on_images_apart_from_those_evaluated(labelled, tmp_path):
    out = tmp_path / "out.json"
    gate_run(labelled, "--precision", "int8", "--allow-undecided", "--benchmark-json", str(out), engine="onnxruntime")
    row = next(row for row in records(out) if row["precision"] == "int8")
    calibration = row["evidence"]["quantisation"]["calibration"]
    assert calibration["source"] == str(labelled / "data")
    assert row["images"] + calibration["images"] == row["images_in_data"] == IMAGES
    assert row["paired"]["images"] == row["images"]


@pytest.mark.slow
def test_int8_that_was_calibrated_on_generated_images_is_refused(labelled, monkeypatch):
    from fixtures.options import reading

    monkeypatch.setattr(reading, "calibration_images", lambda ask, data, precisions, cache_dir: ("", (), data.images))
    outcome = gate_run(labelled, "--precision", "int8", engine="onnxruntime")
    assert outcome.code == 1
    assert "generated images" in outcome.text


def test_random_weights_are_refused(labelled):
    outcome = gate_run(labelled, "--weights", "random", file=False)
    assert outcome.code == 1
    assert "an accuracy of random weights means nothing" in outcome.text
    assert "passed" not in outcome.text


def test_unlabelled_images_are_refused_naming_the_folder(labelled, tmp_path):
    (tmp_path / "zebras").mkdir()
    write_generated_jpegs(tmp_path / "zebras", 4)
    outcome = gate_run(labelled, data=tmp_path)
    assert outcome.code == 1
    assert "its folder 'zebras' is no wnid" in outcome.text


def test_without_data_it_is_a_skip_that_names_the_option():
    outcome = run_here("tests_accuracy", "-k", "imagenet", "--model", TINY, "--device", "cpu", "--allow-skips")
    assert outcome.code == 0
    assert "give --data DIR (or DATASET_DIR)" in outcome.text
    assert "passed" not in outcome.text


def test_a_wrong_path_is_a_usage_error():
    outcome = run_here("tests_accuracy", "--data", "/nowhere/at/all")
    assert outcome.code == 4
    assert "--data /nowhere/at/all: no folder" in outcome.text


@pytest.mark.slow
def test_a_truncated_file_fails_at_the_end_or_is_counted(labelled, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(labelled / "data", data)
    bad = sorted(data.rglob("*.JPEG"))[5]
    bad.write_bytes(bad.read_bytes()[:200])
    outcome = gate_run(labelled, "--benchmark-json", str(tmp_path / "out.json"), data=data)
    assert outcome.code == 1
    assert f"1 files cannot be read (--skip-corrupt counts them instead): {bad}" in outcome.text
    assert records(tmp_path / "out.json")[0]["images"] == IMAGES - 1
    counted = gate_run(labelled, "--skip-corrupt", "--benchmark-json", str(tmp_path / "out.json"), data=data)
    assert counted.code == 0
    row = records(tmp_path / "out.json")[0]
    assert (row["images"], row["unreadable_images"], row["top1"]["pct"]) == (IMAGES - 1, 1, 100.0)


def test_predictions_are_written_as_csv(labelled, tmp_path):
    outcome = gate_run(labelled, "--output-results", "--output-dir", str(tmp_path / "out"), "--num-inputs", "50")
    assert outcome.code == 0, outcome.text
    (path,) = (tmp_path / "out").glob("*.csv")
    assert path.name == "timm_test_efficientnet-cpu-fp32-bs32-eager_results.csv", "a slash in a name would be a folder"
    lines = path.read_text().splitlines()
    assert lines[0] == "filename,actual,prediction"
    assert len(lines) == 51
    for line in lines[1:]:
        name, actual, prediction = line.split(",")
        assert (labelled / "data" / WNIDS[int(actual)] / name).exists()
        assert prediction == actual


class Skips:
    """A plugin that keeps for each model why its tests are skipped, None where they run."""

    def pytest_collection_finish(self, session):
        marks = {item.callspec.params["model"]: item.get_closest_marker("skip") for item in session.items}
        self.reasons = {model: mark and mark.kwargs["reason"] for model, mark in marks.items()}


def test_a_model_without_trained_weights_is_left_out_of_all_and_refused_by_name(labelled):
    arguments = ("tests_accuracy/test_imagenet.py", "--device", "cpu", "--data", str(labelled / "data"))
    skips = Skips()
    widened = run_here(*arguments, "--tier", "all", "--collect-only", "-q", plugin=skips)
    assert widened.code == 0, widened.text
    assert skips.reasons["efficientnet_b0_g16_gn"] == "no trained weights of efficientnet_b0_g16_gn exist"
    assert skips.reasons["resnet18"] is None
    named = run_here(*arguments, "--model", "efficientnet_b0_g16_gn")
    assert named.code == 4
    assert "efficientnet_b0_g16_gn" in named.text


def test_predictions_without_data_are_a_usage_error():
    outcome = run_here("tests_accuracy", "--output-results")
    assert outcome.code == 4
    assert "add --data DIR" in outcome.text


@pytest.mark.parametrize("value", ["0", "101", "much"])
def test_a_floor_that_is_no_percentage_is_a_usage_error(value):
    outcome = run_here("tests_accuracy", "--min-top1", value)
    assert outcome.code == 4
    assert "no share in per cent" in outcome.text


@pytest.mark.slow
def test_the_references_answers_are_kept_and_made_anew_for_other_images(labelled, tmp_path):
    """A kept answer saves the reference's run; a picture that was replaced under its name costs it."""
    data = tmp_path / "data"
    shutil.copytree(labelled / "data", data)
    cache = ("--cache-dir", str(tmp_path / "cache"))
    runs = [gate_run(labelled, *cache, data=data, engine="trace") for _ in range(2)]
    assert [outcome.code for outcome in runs] == [0, 0], runs[0].text
    assert ["reference " in outcome.text for outcome in runs] == [True, False]
    first, second = sorted(data.rglob("*.JPEG"))[:2]
    first.write_bytes(second.read_bytes())
    assert "reference " in gate_run(labelled, *cache, data=data, engine="trace").text


def test_trained_weights_are_the_default_where_there_is_data(labelled):
    """Without a network they cannot be had; the message says how to pass a file."""
    outcome = run_command(
        *("tests_accuracy/test_imagenet.py", "--model", TINY, "--device", "cpu", "--data", str(labelled / "data")),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(labelled / "empty"),
    )
    assert outcome.code == 4, outcome.text
    assert "--weights pretrained" in outcome.text
    assert "FILE" in outcome.text
