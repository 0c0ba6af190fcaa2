"""Detectors whole: what torchvision's own code finds, and sets of objects that are right or wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.cases import Case
from harness.proof.answers import short_of
from harness.proof.inputs import cannot_be_whole
from harness.triton.export import unsupported as cannot_be_served
from models.catalog import find_spec, load_catalog
from models.detectors.whole import WHOLE
from models.tasks import Outputs, WrongAnswers, task_of
from models.tasks.whole import objects_in
from selftests.detectors import small_whole

CATALOG = load_catalog()
SPEC = CATALOG["ssdlite320_mobilenet_v3_large"]
TASK = task_of(SPEC)
IMAGES, OBJECTS, KEPT = 4, 30, 40


def outputs_of(seed=0):
    """Objects in images of 320 pixels, far enough apart to be told from each other."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 220, (IMAGES, KEPT, 2))
    boxes = np.concatenate([low, low + rng.uniform(30, 100, (IMAGES, KEPT, 2))], axis=2)
    scores = -np.sort(-rng.uniform(0.1, 1, (IMAGES, KEPT)), axis=1)
    labels = rng.integers(1, 91, (IMAGES, KEPT))
    for array in (boxes, scores, labels):
        array[:, OBJECTS:] = 0
    return Outputs(WHOLE, (boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.float32)))


RIGHT = outputs_of()


def changed(**arrays):
    return Outputs(WHOLE, [arrays.get(name, RIGHT[name]) for name in WHOLE])


def test_right_objects_agree_in_any_order_and_a_few_others_are_let_through():
    same = TASK.compare(RIGHT, RIGHT)
    assert (same.matched_pct, same.top1_agreement_pct, same.sqnr_db) == (100, 100, 200)
    order = np.random.default_rng(1).permutation(OBJECTS)
    shuffled = [array.copy() for array in RIGHT]
    for array in shuffled:
        array[:, :OBJECTS] = array[:, order]
    assert TASK.compare(RIGHT, Outputs(WHOLE, shuffled)).matched_pct == 100
    few = RIGHT["labels"].copy()
    few[:, 0] += 1
    found = TASK.compare(RIGHT, changed(labels=few))
    assert 95 < found.matched_pct < 98 and found.sqnr_db == 200
    assert short_of(found, "fp32") is None


SABOTAGES = {
    "another image's objects": (lambda: Outputs(WHOLE, [np.roll(one, 1, 0) for one in RIGHT]), "4 of 4 images get"),
    "x and y swapped": (lambda: changed(boxes=RIGHT["boxes"][..., [1, 0, 3, 2]]), "other weights"),
    "boxes twice as wide": (lambda: changed(boxes=RIGHT["boxes"] * np.array([1, 1, 2, 1], np.float32)), "coordinates"),
    "boxes as shares of the image": (lambda: changed(boxes=RIGHT["boxes"] / 320), "0% of the objects match"),
    "labels one too high": (lambda: changed(labels=RIGHT["labels"] + (RIGHT["labels"] > 0)), "0% of the objects match"),
    "a third of the objects": (lambda: changed(scores=RIGHT["scores"] * (np.arange(KEPT) % 3 == 0)), "objects match"),
    "nothing": (lambda: changed(scores=0 * RIGHT["scores"]), "nothing is found"),
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_wrong_objects_are_below_every_floor_and_are_called_by_their_name(sabotage, precision):
    make, words = SABOTAGES[sabotage]
    found = make()
    assert short_of(TASK.compare(RIGHT, found), precision) is not None
    assert words in TASK.describe_wrong(RIGHT, found)


def test_objects_that_all_match_show_the_format_that_they_were_computed_in():
    """Half a per cent of a box is what bf16 leaves, which is no fp32."""
    moved = changed(boxes=RIGHT["boxes"] * np.float32(1.005), scores=RIGHT["scores"] * np.float32(0.98))
    found = TASK.compare(RIGHT, moved)
    assert found.matched_pct == 100
    assert "dB from the fp32 reference, the floor of fp32 is 60 dB" in short_of(found, "fp32")
    assert short_of(found, "amp_bf16") is None


def test_one_wrong_image_among_right_ones_is_heard():
    """So much noise as the check under load takes off for the number of images."""
    some = RIGHT["labels"].copy()
    some[2] = (some[2] + 1) * (some[2] > 0)
    assert TASK.compare(RIGHT, changed(labels=some)).sqnr_db == pytest.approx(10 * np.log10(IMAGES))


def test_objects_that_are_not_finite_or_a_reference_without_any_are_told():
    broken = RIGHT["boxes"].copy()
    broken[1, 2, 3] = np.nan
    with pytest.raises(WrongAnswers, match="boxes of objects are NaN or infinite"):
        TASK.compare(RIGHT, changed(boxes=broken))
    empty = changed(scores=0 * RIGHT["scores"])
    with pytest.raises(WrongAnswers, match="the reference finds no object"):
        TASK.compare(empty, RIGHT)


def test_objects_are_scaled_to_the_original_image_and_recorded():
    found = TASK.decode(RIGHT, [(160, 640)] * IMAGES)[0]
    np.testing.assert_allclose(found.boxes, objects_in(RIGHT)[0].boxes * np.array([2, 0.5, 2, 0.5]), rtol=1e-5)
    findings = TASK.findings(RIGHT, RIGHT)
    assert findings == {"detections_per_image": [OBJECTS] * IMAGES, "matched_pct": 100}
    many = Outputs(WHOLE, [np.tile(one[:, :OBJECTS], (1, 5, 1)[: one.ndim]) for one in RIGHT])
    assert TASK.packed(TASK.decode(many)).shape == (IMAGES, 100, 6), "the likeliest hundred of more"


def test_a_whole_detector_gives_torchvisions_objects_in_a_fixed_number_of_rows():
    module = small_whole()
    images = torch.randn(2, 3, 64, 64)
    boxes, scores, labels = module(images)
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 7, 4), (2, 7), (2, 7))
    wanted = module.network([*images])
    for index, one in enumerate(wanted):
        assert torch.equal(boxes[index, : len(one["boxes"])], one["boxes"])
        assert torch.equal(labels[index, : len(one["labels"])], one["labels"].float())
    module.network.score_thresh = 1.0
    assert not any(bool(one.any()) for one in module(images)), "rows of zeros fill up the number"


def test_boxes_end_where_the_image_ends_within_a_padded_input():
    images = torch.randn(1, 3, 64, 64)
    images[:, :, 40:] = 0
    images[:, :, :, 24:] = 0
    boxes, _, _ = small_whole(is_padded=True)(images)
    assert boxes[0].amax(0).tolist()[2:] <= [24, 40]
    boxes, _, _ = small_whole()(images)
    assert float(boxes.max()) > 40


@pytest.mark.parametrize(
    ("model", "engine", "words"),
    [
        ("ssdlite320_mobilenet_v3_large", "trace", None),
        ("fasterrcnn_resnet50_fpn", "eager", None),
        ("fasterrcnn_resnet50_fpn", "trace", "use --engine eager"),
        ("ssd_mobilenet_v1", "eager", "no detector of torchvision"),
        ("fbnetc_100", "eager", "no detector of torchvision"),
    ],
)
def test_what_cannot_run_whole_says_why(model, engine, words):
    case = Case(model, "cpu", "fp32", 1, engine, settings=("whole",))
    reason = cannot_be_whole(case, find_spec(model, CATALOG))
    assert reason is None if words is None else words in reason
    assert cannot_be_whole(replace(case, settings=()), find_spec(model, CATALOG)) is None


def test_a_server_is_not_asked_for_a_whole_detector():
    case = Case("ssdlite320_mobilenet_v3_large", "cpu", "fp32", 1, "onnxruntime", settings=("whole",))
    assert "drop --whole-model" in cannot_be_served(case)
    assert cannot_be_served(replace(case, settings=())) is None
