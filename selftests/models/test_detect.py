"""The task of detection: raw heads against the reference, objects made of them, and what each mistake is called."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from harness.proof.reference import reference_outputs
from models.build import build_module
from models.catalog import UnknownModel, find_spec, load_catalog
from models.detectors import Suppression, suppressed
from models.detectors.torchvision_networks import create
from models.preprocess import generated_images, normalise, placed_size
from models.tasks import Detections, Outputs, WrongAnswers, task_of
from models.tasks.decoding import detections
from models.tasks.matched import matched_pct
from selftests.detectors import TINY_DETECTOR

CATALOG = load_catalog()
SPEC = find_spec(TINY_DETECTOR, CATALOG)
PADDED = CATALOG["fasterrcnn_fbnetv3a"]
TASK = task_of(SPEC)
# The least floor that any precision has for random weights.
LEAST_FLOOR_DB = 4.0


@pytest.fixture(scope="module")
def module():
    return build_module(SPEC).module


@pytest.fixture(scope="module")
def images():
    return TASK.generated(SPEC, 6)


@pytest.fixture(scope="module")
def reference(module, images):
    return reference_outputs(module, images)


def changed(outputs, **heads):
    return Outputs(outputs.names, [heads.get(name, outputs[name]) for name in outputs.names])


SABOTAGES = {
    "colours swapped": lambda module, images, own: reference_outputs(module, images.flip(1)),
    "another image": lambda module, images, own: reference_outputs(module, images.roll(1, 0)),
    "a head of zeros": lambda module, images, own: changed(own, codes=np.zeros_like(own["codes"])),
    "rows shifted": lambda module, images, own: changed(own, logits=np.roll(own["logits"], 1, axis=1)),
    "x and y swapped": lambda module, images, own: changed(own, codes=own["codes"][..., [1, 0, 3, 2]]),
    "boxes scaled": lambda module, images, own: changed(own, codes=2 * own["codes"]),
    "classes shifted": lambda module, images, own: changed(own, logits=np.roll(own["logits"], 1, axis=2)),
}
TOLD = {
    "colours swapped": "resembles no image's",
    "another image": "6 of 6 images get another image's answer",
    "a head of zeros": "the head codes gives nothing but zeros",
    "x and y swapped": "the head codes resembles no image's",
    "boxes scaled": "codes",
    "rows shifted": "logits",
    "classes shifted": "logits",
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_mistake_is_below_every_floor_and_is_called_by_its_name(sabotage, module, images, reference):
    found = SABOTAGES[sabotage](module, images, reference)
    agreement = TASK.compare(reference, found)
    assert agreement.sqnr_db < LEAST_FLOOR_DB, agreement
    assert TOLD[sabotage] in TASK.describe_wrong(reference, found)


def test_what_is_right_agrees_and_each_head_is_told(reference):
    agreement = TASK.compare(reference, reference)
    assert agreement.heads_sqnr_db == {"codes": 200.0, "logits": 200.0}
    assert agreement.top1_agreement_pct == 100
    findings = TASK.findings(reference, reference)
    assert findings["matched_pct"] == 100
    assert len(findings["detections_per_image"]) == 6
    assert min(findings["detections_per_image"]) > 0


def test_a_wrong_head_is_not_hidden_by_a_right_one(reference):
    agreement = TASK.compare(reference, changed(reference, codes=reference["codes"][::-1].copy()))
    assert agreement.heads_sqnr_db["logits"] == 200
    assert agreement.sqnr_db == agreement.heads_sqnr_db["codes"] < 0


@pytest.mark.parametrize("head", ["codes", "logits"])
def test_answers_that_cannot_be_compared_name_the_head(reference, head):
    broken = reference[head].copy()
    broken[2, 5] = np.nan
    with pytest.raises(WrongAnswers, match=f"head {head}: .* NaN or infinite"):
        TASK.compare(reference, changed(reference, **{head: broken}))
    with pytest.raises(WrongAnswers, match=f"head {head}: .* shape"):
        TASK.compare(reference, changed(reference, **{head: reference[head][:, :-1]}))


def test_images_that_all_get_the_same_objects_or_none_are_no_measurement(reference):
    same = Outputs(reference.names, [np.repeat(reference[name][:1], 6, axis=0) for name in reference.names])
    with pytest.raises(WrongAnswers, match="every image gets the same objects"):
        TASK.findings(reference, same)
    with pytest.raises(WrongAnswers, match="no object is found in any image"):
        TASK.findings(reference, changed(reference, logits=np.full_like(reference["logits"], -100)))


def test_an_input_that_does_not_tell_images_apart_cannot_judge(module, images):
    """As random weights that nobody made alive."""
    alike = reference_outputs(module, images[:1].repeat(3, 1, 1, 1))
    with pytest.raises(WrongAnswers, match="differ by only 0.00% between images"):
        TASK.compare(alike, alike)


def test_boxes_are_in_pixels_of_the_original_image_and_inside_it(reference):
    sizes = [(480, 640), (200, 100), (1, 1), (300, 300), (77, 500), (640, 480)]
    for (height, width), found in zip(sizes, TASK.decode(reference, sizes), strict=True):
        assert len(found)
        assert found.boxes.min() >= 0
        assert found.boxes[:, [0, 2]].max() <= width
        assert found.boxes[:, [1, 3]].max() <= height
        assert (np.diff(found.scores) <= 0).all(), "the likeliest come first"
        assert set(found.labels) <= set(range(1, 91))
    whole = TASK.decode(reference)[3]
    np.testing.assert_array_equal(whole.boxes, TASK.decode(reference, sizes)[3].boxes)


def test_how_many_objects_are_kept_is_asked_for(reference):
    few = detections(SPEC, reference, None, Suppression(iou=0.6, threshold=1e-8, keep=7, candidates=400))
    assert [len(one) for one in few] == [7] * 6
    assert [len(one) for one in detections(SPEC, reference, None, Suppression(threshold=1.0))] == [0] * 6


def test_of_boxes_of_one_class_that_overlap_the_likeliest_is_kept():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9.0], [50, 50, 60, 60]])
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]])
    found, likely, labels = suppressed(boxes, scores, torch.tensor([3, 90]), Suppression(iou=0.5, threshold=0.1))
    assert likely.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert labels.tolist() == [3, 90, 3]
    assert found.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]
    own = boxes[:, None].repeat(1, 2, 1)
    own[1, 1] = torch.tensor([1.0, 2, 3, 4])
    found, _, _ = suppressed(own, scores, torch.tensor([3, 90]), Suppression(iou=0.5, threshold=0.1))
    assert found[1].tolist() == [1, 2, 3, 4], "a class has a box of its own"


def objects(*rows):
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels))


def test_objects_match_one_to_one_with_one_label_and_half_the_area():
    one = objects(([0, 0, 10, 10], 0.9, 1), ([20, 20, 30, 30], 0.8, 2), ([0, 0, 5, 5], 0.1, 3))
    assert matched_pct([one], [one]) == 100
    moved = objects(([0, 0, 10, 6], 0.9, 1), ([20, 20, 30, 24], 0.8, 2))
    assert matched_pct([one], [moved]) == 50, "the second has less than half of the union"
    relabelled = objects(([0, 0, 10, 10], 0.9, 2), ([20, 20, 30, 30], 0.8, 1))
    assert matched_pct([one], [relabelled]) == 0
    twice = objects(([0, 0, 10, 10], 0.9, 1), ([0, 0, 10, 10], 0.8, 1))
    assert matched_pct([one], [twice]) == 50, "each is paired once"
    nothing = objects(([0, 0, 10, 10], 0.1, 1))
    assert matched_pct([nothing], [nothing]) is None


@pytest.mark.parametrize(
    ("size", "placed"),
    [((480, 640), (320, 426)), ((640, 480), (426, 320)), ((300, 900), (160, 480)), ((90, 90), (320, 320))],
)
def test_an_image_that_is_padded_keeps_its_aspect(size, placed):
    assert placed_size(PADDED.input, *size) == placed
    image = Image.fromarray(np.full((*size, 3), 255, np.uint8))
    found = task_of(PADDED).transform(PADDED)(image)
    assert found.shape == (3, 480, 480)
    assert bool((found[:, : placed[0], : placed[1]] != 0).all())
    assert not found[:, placed[0] :].any()
    assert not found[:, :, placed[1] :].any()


def test_an_image_that_fills_the_input_is_squashed():
    image = Image.fromarray(np.zeros((100, 640, 3), np.uint8))
    found = TASK.transform(SPEC)(image)
    assert found.shape == (3, 300, 300)
    assert float(found.min()) == float(found.max()) == -1


def test_answers_of_one_size_hold_label_score_and_corners(reference):
    answers = TASK.decode(reference)
    rows = TASK.packed(answers)
    assert (rows.shape, rows.dtype) == ((6, 100, 6), np.float32)
    np.testing.assert_array_equal(rows[1, : len(answers[1]), 0], answers[1].labels)
    np.testing.assert_array_equal(rows[1, : len(answers[1]), 2:], answers[1].boxes)


def test_what_ranks_classes_has_no_use_for_boxes(reference):
    with pytest.raises(WrongAnswers, match="test_coco.py"):
        TASK.ranked(reference)


def test_a_width_is_part_of_the_name():
    assert find_spec("ssd_mobilenet_v1_050", CATALOG).arch == "ssd_mobilenet_v1_050"
    channels = [
        build_module(find_spec(f"ssd_mobilenet_v1_{width}", CATALOG)).module.stem.out_channels
        for width in ("025", "050")
    ]
    assert channels == [8, 16]
    with pytest.raises(UnknownModel):
        find_spec("ssd_mobilenet_v1_000", CATALOG)
    with pytest.raises(UnknownModel):
        find_spec("resnet18_050", CATALOG)


TORCHVISION = [name for name, spec in CATALOG.items() if spec.task == "detect" and spec.source == "torchvision"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "320" in name else [pytest.mark.slow]) for name in TORCHVISION]
)
def test_a_row_of_torchvision_is_what_its_network_says(name):
    spec, row = find_spec(f"torchvision:{name}", CATALOG), CATALOG[name]
    assert (spec.arch, spec.weights, spec.task, spec.published) == (row.arch, row.weights, "detect", row.published)
    assert spec.input.size == row.input.size
    assert (spec.input.crop_mode, spec.input.short_side) == (row.input.crop_mode, row.input.short_side)
    assert spec.input.mean == pytest.approx(row.input.mean, abs=1e-4)
    assert spec.input.std == pytest.approx(row.input.std, abs=1e-6)


def test_a_detector_with_further_heads_is_refused():
    with pytest.raises(UnknownModel, match="FCOS is not taken apart here; SSD, RetinaNet, FasterRCNN are"):
        find_spec("torchvision:fcos_resnet50_fpn", CATALOG)


def test_what_is_taken_apart_finds_what_torchvision_finds():
    """The whole network of torchvision and its raw heads with what is behind them here, on one image."""
    spec = CATALOG["ssdlite320_mobilenet_v3_large"]
    built = build_module(spec)
    whole = create(spec.arch).eval()
    whole.backbone, whole.head = built.module.backbone, built.module.head
    image = task_of(spec).generated(spec, 1)
    made = whole.transform
    pixels = image[0] * torch.tensor(made.image_std)[:, None, None] + torch.tensor(made.image_mean)[:, None, None]
    with torch.inference_mode():
        wanted = whole([pixels])[0]
        found = built.module(image)
    own = detections(spec, Outputs(built.module.output_names, [one.numpy() for one in found]))[0]
    theirs = objects(*zip(wanted["boxes"].tolist(), wanted["scores"].tolist(), wanted["labels"].tolist(), strict=True))
    likely = float(own.scores[-1])
    assert matched_pct([theirs], [own], likely) > 90


@pytest.mark.slow
def test_two_stages_that_are_taken_apart_find_what_torchvision_finds():
    """The whole Faster R-CNN of torchvision, on an image that needs no padding, and the same in two networks."""
    spec = CATALOG["fasterrcnn_mobilenet_v3_large_320_fpn"]
    built = build_module(spec)
    whole = create(spec.arch).eval()
    whole.backbone.load_state_dict(built.module.features.backbone.state_dict())
    whole.rpn.head.load_state_dict(built.module.features.head.state_dict())
    whole.roi_heads.box_head.load_state_dict(built.module.heads.body.state_dict())
    whole.roi_heads.box_predictor.load_state_dict(built.module.heads.predictor.state_dict())
    whole.transform.min_size, whole.transform.max_size = (480,), 480
    full = replace(spec, input=replace(spec.input, short_side=480))
    image = normalise(generated_images(1, full.input.size), full.input)
    made = whole.transform
    pixels = image[0] * torch.tensor(made.image_std)[:, None, None] + torch.tensor(made.image_mean)[:, None, None]
    with torch.inference_mode():
        wanted = whole([pixels])[0]
        found = built.module(image)
    own = detections(full, Outputs(built.module.output_names, [one.numpy() for one in found]))[0]
    theirs = objects(*zip(wanted["boxes"].tolist(), wanted["scores"].tolist(), wanted["labels"].tolist(), strict=True))
    assert matched_pct([theirs], [own], float(own.scores[-1])) > 90
