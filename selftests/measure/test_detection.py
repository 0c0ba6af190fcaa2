"""The AP of detectors: as pycocotools has it, no surer than the images allow, and never that of a known mistake."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from harness.data import DataSet, ImageFile, Objects
from harness.data.coco.categories import COCO_CATEGORIES
from harness.measure.accuracy.judge import Gate
from harness.measure.accuracy.run import Sample
from harness.measure.detection.comparison import DrawnAp, compare_ap, draw_ap, drawn_weights
from harness.measure.detection.evaluation import annotations_json, evaluate, results_json
from harness.measure.detection.judge import judge_objects
from harness.measure.detection.matching import average_precision, match
from harness.measure.detection.mistakes import require_scorable
from harness.measure.detection.run import Found, find
from harness.measure.pipeline import workers
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs, WrongAnswers
from models.tasks.detections import Detections
from selftests.coco_sets import IDS, WIDTH, marked_images, results_of, write_coco

SPEC = find_spec("ssd_mobilenet_v1_075", load_catalog())


OBJECTS = marked_images()
RIGHT = results_of(OBJECTS)


def by_pycocotools(objects, found):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations_json(objects, found)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results_json(found)), "bbox")
        run.params.imgIds = sorted(found)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [None if value < 0 else 100 * value for value in run.stats]


@pytest.mark.parametrize("noise", [0, 20, 150])
def test_all_twelve_numbers_are_those_of_pycocotools(noise):
    found = results_of(OBJECTS, noise=noise)
    found[100] = replace(found[100], scores=np.round(found[100].scores, 1))  # some of one score
    scores = evaluate(OBJECTS, found)
    own = list(vars(scores).values())[:12]
    assert own == pytest.approx(by_pycocotools(OBJECTS, found), abs=1e-9)
    assert scores.ap_pct > 30


def test_sizes_without_an_object_have_no_number_and_absent_categories_are_left_out():
    large = replace(OBJECTS, marked=[replace(one, area=1e5) for one in OBJECTS.marked])
    scores = evaluate(large, RIGHT)
    assert scores.ap_small_pct is None and scores.ap_medium_pct is None and scores.ap_large_pct is not None
    assert set(scores.ap_by_category_pct) == {
        COCO_CATEGORIES[one.category_id] for one in OBJECTS.marked if not one.is_crowd
    }
    assert np.mean(list(scores.ap_by_category_pct.values())) == pytest.approx(scores.ap_pct)


def test_images_that_were_not_run_do_not_count_and_images_without_objects_do():
    half = {image_id: RIGHT[image_id] for image_id in list(RIGHT)[::2]}
    assert evaluate(OBJECTS, half).ap_pct == pytest.approx(by_pycocotools(OBJECTS, half)[0])
    empty = [image_id for image_id in RIGHT if image_id not in {one.image_id for one in OBJECTS.marked}]
    assert empty
    without = {image_id: one for image_id, one in RIGHT.items() if image_id not in empty}
    loud = {**RIGHT, **{image_id: replace(RIGHT[image_id], scores=RIGHT[image_id].scores + 0.7) for image_id in empty}}
    assert evaluate(OBJECTS, loud).ap_pct < evaluate(OBJECTS, without).ap_pct


def test_matching_once_gives_the_same_ap_and_that_of_repeated_images():
    matched = match(OBJECTS, RIGHT)
    whole = average_precision(matched, np.ones((1, len(RIGHT))))[0]
    scores = evaluate(OBJECTS, RIGHT)
    assert 100 * whole.mean() == pytest.approx(scores.ap_pct, abs=1e-9)
    assert 100 * whole[[0, 5]] == pytest.approx([scores.ap50_pct, scores.ap75_pct], abs=1e-9)
    weights = np.random.default_rng(1).integers(0, 3, (3, len(RIGHT))).astype(float)
    for drawn, counts in zip(average_precision(matched, weights), weights, strict=True):
        copies = [
            (image_id, 1000 * copy + image_id)
            for image_id, count in zip(sorted(RIGHT), counts, strict=True)
            for copy in range(1, int(count) + 1)
        ]
        repeated = Objects(
            COCO_CATEGORIES,
            {new: OBJECTS.sizes[old] for old, new in copies},
            [replace(one, image_id=new) for old, new in copies for one in OBJECTS.marked if one.image_id == old],
        )
        again = evaluate(repeated, {new: RIGHT[old] for old, new in copies})
        assert 100 * drawn.mean() == pytest.approx(again.ap_pct, abs=0.02)  # those of one score lie in another order


def test_an_interval_holds_the_ap_of_other_images_of_the_kind_and_narrows_with_more():
    few, many = (draw_ap(one, results_of(one)) for one in (marked_images(40), marked_images(320)))
    other = marked_images(640, seed=7)
    ap, ap50, _ = few.intervals()
    assert ap.low_pct < evaluate(other, results_of(other, seed=7)).ap_pct < ap.high_pct
    assert ap.high_pct - ap.low_pct > 1.8 * (many.intervals()[0].high_pct - many.intervals()[0].low_pct)
    assert ap50.pct > ap.pct


def test_two_models_get_the_same_draws():
    assert np.array_equal(drawn_weights(40, 0, 5), drawn_weights(40, 0, 5))
    assert (drawn_weights(40, 0, 5).sum(axis=1) == 40).all()


def drawn(level, noise):
    return DrawnAp(np.full(10, level), np.broadcast_to((level + noise)[:, None], (len(noise), 10)))


@pytest.mark.parametrize(
    ("loss", "spread", "images", "verdict"),
    [
        (0.0, 0.0, 5000, "holds"),
        (0.0, 0.0, 94, "cannot tell"),  # no difference in 94 images proves no 1%
        (0.001, 0.0005, 5000, "holds"),
        (0.02, 0.002, 5000, "fails"),
        (0.005, 0.004, 5000, "cannot tell"),
    ],
)
def test_a_loss_holds_fails_or_cannot_be_told(loss, spread, images, verdict):
    noise = np.random.default_rng(0).normal(0, 1, 400)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    same = np.random.default_rng(1).normal(0, 0.02, 400)  # what all models share says nothing of their difference
    paired = compare_ap(drawn(0.4, same), drawn(0.4 - loss, same + spread * noise), images, 1.0)
    assert paired.verdict == verdict
    assert paired.loss_points == pytest.approx(100 * loss)
    assert (paired.needs_images is not None) == (verdict == "cannot tell")


def test_so_many_images_as_are_needed_would_tell():
    noise = np.random.default_rng(0).normal(0, 1, 4000)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    flat = np.zeros(4000)
    paired = compare_ap(drawn(0.4, flat), drawn(0.3995, 0.003 * noise), 200, 1.0)
    assert f"needs about {paired.needs_images:,} images, has 200" in str(paired)
    smaller = 0.003 * np.sqrt(200 / paired.needs_images)
    assert compare_ap(drawn(0.4, flat), drawn(0.3995, smaller * noise), paired.needs_images, 1.0).verdict == "holds"
    at_margin = compare_ap(drawn(0.4, flat), drawn(0.396, 0.003 * noise), 200, 1.0)
    assert at_margin.needs_images is None and "the loss lies at the margin" in str(at_margin)


def relabelled(change):
    def apply(found):
        labels = np.array([change(int(label)) for label in found.labels])
        is_kept = labels >= 0
        return Detections(found.boxes[is_kept], found.scores[is_kept], labels[is_kept])

    return apply


def boxed(change):
    return lambda found: replace(found, boxes=change(found.boxes).astype(np.float32))


def background_last(found):
    """As if the classes stood before the background, and were read as if they stood behind it."""
    shifted = relabelled(lambda label: IDS[IDS.index(label) - 1] if label != IDS[0] else -1)(found)
    everywhere = Detections(found.boxes, np.full(len(found), 0.9, np.float32), np.full(len(found), IDS[-1]))
    return Detections(
        *(np.concatenate(pair) for pair in zip(vars(everywhere).values(), vars(shifted).values(), strict=True))
    )


def swapped_classes(label):
    return {IDS[0]: IDS[6], IDS[6]: IDS[0]}.get(label, label)


MISTAKES = {
    "ids from 0 to 79": (relabelled(IDS.index), "numbered from 0 to 79 for ids from 1 to 90"),
    "ids from 1 to 80": (relabelled(lambda label: IDS.index(label) + 1), "numbered from 1 to 80 for ids from 1 to 90"),
    "one too low": (relabelled(lambda label: label - 1), r"one too low \(off by one\)"),
    "one too high": (relabelled(lambda label: label + 1), r"one too high \(off by one\)"),
    "background last": (background_last, "the background is the last class"),
    "background first": (
        relabelled(lambda label: IDS[(IDS.index(label) + 1) % 80]),
        "the background is the first class, and is read as the last",
    ),
    "two classes swapped": (relabelled(swapped_classes), "categories person and train are swapped"),
    "unknown categories": (relabelled(lambda label: 26), "get categories that the annotations do not have, such as 26"),
    "corners as x y w h": (
        boxed(lambda boxes: np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])),
        "corners x0 y0 x1 y1 are written as x y width height",
    ),
    "x y w h as corners": (
        boxed(lambda boxes: np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])),
        "boxes x y width height are taken for corners",
    ),
    "x and y swapped": (boxed(lambda boxes: boxes[:, [1, 0, 3, 2]]), "x and y of the boxes are swapped"),
    "normalised": (boxed(lambda boxes: boxes / WIDTH), "they are normalised"),
    "each twice": (
        lambda found: Detections(*(np.concatenate([part, part]) for part in vars(found).values())),
        "are there twice",
    ),
    "a NaN score": (
        lambda found: replace(found, scores=np.where(np.arange(len(found)) == 3, np.nan, found.scores)),
        "scores are NaN or infinite",
    ),
    "an infinite box": (boxed(lambda boxes: boxes + np.float32("inf")), "boxes are NaN or infinite"),
    "logits for scores": (lambda found: replace(found, scores=10 * found.scores - 5), "are they raw logits"),
    "nothing": (lambda found: Detections(found.boxes[:0], found.scores[:0], found.labels[:0]), "nothing to score"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_known_mistake_is_named_and_not_scored(name):
    sabotage, words = MISTAKES[name]
    with pytest.raises(WrongAnswers, match=words) as refusal:
        require_scorable(OBJECTS, {image_id: sabotage(one) for image_id, one in RIGHT.items()})
    assert "\n" not in str(refusal.value)


def test_boxes_that_are_scaled_by_the_other_side_are_named():
    across = {}
    for image_id, one in RIGHT.items():
        width, height = OBJECTS.sizes[image_id]
        factors = np.array([height / width, width / height] * 2)
        across[image_id] = replace(one, boxes=(one.boxes * factors).astype(np.float32))
    with pytest.raises(WrongAnswers, match="scaled by height and width in the wrong order"):
        require_scorable(OBJECTS, across)


def test_images_without_results_are_not_scored_as_if_they_had_been_run():
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    half = {image_id: one if at % 2 else nothing for at, (image_id, one) in enumerate(RIGHT.items())}
    with pytest.raises(WrongAnswers, match="images with objects have no detection.*not run must not be evaluated"):
        require_scorable(OBJECTS, half)


@pytest.mark.parametrize("how", [{}, {"jitter": 0.25, "wrong": 0.6}, {"jitter": 0.6, "wrong": 0.9}, {"noise": 90}])
def test_good_and_bad_detectors_are_scored_and_not_taken_for_mistaken(how):
    require_scorable(OBJECTS, results_of(OBJECTS, **how))


@pytest.mark.parametrize("kept", [(1,), (1, 3, 27), (3, 7, 11, 18, 27)])
def test_a_detector_that_knows_more_categories_than_are_annotated_is_scored(kept):
    """Whatever else it takes an object for, the categories are right."""
    categories = {number: COCO_CATEGORIES[number] for number in kept}
    some = replace(OBJECTS, categories=categories, marked=[one for one in OBJECTS.marked if one.category_id in kept])
    require_scorable(some, results_of(OBJECTS, wrong=0.6))


def test_boxes_of_chance_are_a_bad_detector_and_no_mistake():
    rng = np.random.default_rng(0)
    by_chance = {}
    for image_id, one in RIGHT.items():
        corner = rng.uniform(0, 300, (len(one), 2))
        boxes = np.column_stack([corner, corner + rng.uniform(5, 120, (len(one), 2))]).astype(np.float32)
        by_chance[image_id] = Detections(boxes, one.scores, rng.choice(IDS, len(one)))
    require_scorable(OBJECTS, by_chance)


def found_of(by_image, unreadable=()):
    return Found(by_image, tuple(unreadable), 2.0, 5)


def sample_of(objects, is_validation_set=False, images=None):
    files = [ImageFile(Path(f"{image_id}.jpg"), None, None, None, image_id) for image_id in objects.sizes]
    return Sample(DataSet("set", "coco", tuple(files), is_validation_set, objects), files[:images], 0)


def test_the_published_floor_is_of_the_whole_set_alone():
    spec = replace(SPEC, published={"ap": 90.0, "ap50": 20.0})
    whole = judge_objects(found_of(RIGHT), None, sample_of(OBJECTS, True), spec, Gate(), 2)
    assert whole.accuracy.ap_floor.pct == pytest.approx(89.1) and whole.accuracy.absolute == "fails"
    assert "below the floor 89.10% (90.000% published x 0.99)" in whole.failures[0] and len(whole.failures) == 1
    part = {image_id: RIGHT[image_id] for image_id in list(RIGHT)[:30]}
    for found, sample in ((RIGHT, sample_of(OBJECTS)), (part, sample_of(OBJECTS, True, 30))):
        accuracy = judge_objects(found_of(found), None, sample, spec, Gate(), 2).accuracy
        assert (accuracy.absolute, accuracy.ap_floor) == ("not gated", None)
    own = judge_objects(found_of(RIGHT), None, sample_of(OBJECTS), spec, Gate(min_map_pct=10, min_map50_pct=99.9), 2)
    assert own.accuracy.absolute == "fails" and own.failures[0].startswith("AP50 ")
    assert own.accuracy.ap50_floor.terms == "by --min-map50"


def test_a_worse_detector_fails_against_the_reference_with_the_categories_that_lost_most():
    worse = results_of(OBJECTS, jitter=0.2, wrong=0.4)
    judged = judge_objects(found_of(worse), found_of(RIGHT), sample_of(OBJECTS), SPEC, Gate(), 2)
    assert judged.accuracy.paired.verdict == "fails" and "points of AP lost" in judged.failures[0]
    assert judged.worst_categories and " to " in judged.worst_categories[0]
    assert 0 < judged.accuracy.matched_pct < 90
    same = judge_objects(found_of(RIGHT), found_of(RIGHT), sample_of(OBJECTS), SPEC, Gate(allow_undecided=True), 2)
    assert same.accuracy.matched_pct == 100 and same.accuracy.paired.verdict == "cannot tell" and not same.failures
    assert same.accuracy.paired.needs_images > 200
    strict = judge_objects(found_of(RIGHT), found_of(RIGHT), sample_of(OBJECTS), SPEC, Gate(), 2)
    assert "cannot tell: needs about" in strict.failures[0]


def test_images_that_only_the_reference_could_not_read_are_told():
    part = {image_id: one for image_id, one in list(RIGHT.items())[1:]}
    with pytest.raises(WrongAnswers, match="the fp32 CPU reference could not read 1 images"):
        judge_objects(found_of(RIGHT), found_of(part), sample_of(OBJECTS), SPEC, Gate(), 2)


def test_a_file_that_cannot_be_read_fails_unless_it_is_to_be_counted():
    for skips, count in ((False, 1), (True, 0)):
        judged = judge_objects(
            found_of(RIGHT, ["a.jpg: truncated"]), None, sample_of(OBJECTS), SPEC, Gate(skip_corrupt=skips), 2
        )
        assert judged.accuracy.unreadable_images == 1 and len(judged.failures) == count


class Telling:
    """A runner whose answer to an image is its mean, and its task, which makes a box as large as the image of it."""

    def __init__(self, batch, change=lambda means: means):
        self.batch, self.change = batch, change

    def put(self, images):
        assert len(images) == self.batch
        return images

    def submit(self, batch):
        return Outputs(("means",), (self.change(batch.mean(dim=(1, 2, 3)).numpy()),))

    def synchronize(self):
        pass

    def fetch(self, output):
        return output

    def decode(self, outputs, sizes):
        return [
            Detections(np.array([[0, 0, width, height]], np.float32), np.array([mean], np.float32), np.array([1]))
            for mean, (height, width) in zip(outputs["means"], sizes, strict=True)
        ]


def to_tensor(image):
    return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1).float() / 255


def told(data, batch, change=lambda means: means):
    runner = Telling(batch, change)
    with workers(2) as pool:
        return find(runner, runner, to_tensor, data.images, data.objects, batch, pool, lambda done, total, text: None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    from harness.data import open_data_set

    return open_data_set(str(write_coco(tmp_path_factory.mktemp("coco") / "set")), Path("nowhere"))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_each_image_gets_its_own_boxes_in_its_own_size(opened, batch):
    found, alone = told(opened, batch), told(opened, 1)
    assert list(found.by_image) == [image.image_id for image in opened.images]
    for image_id, one in found.by_image.items():
        assert one.boxes[0].tolist() == [0, 0, *opened.objects.sizes[image_id]]
        assert one.scores[0] == pytest.approx(alone.by_image[image_id].scores[0])


def test_outputs_that_are_not_finite_name_their_image(opened):
    with pytest.raises(WrongAnswers, match=rf"means of .*{opened.images[3].name} are NaN"):
        told(opened, 8, lambda means: np.where(np.arange(len(means)) == 3, np.nan, means))


def test_a_file_that_is_cut_off_shifts_no_other(opened, tmp_path):
    bad = replace(opened.images[2], path=tmp_path / "cut.jpg")
    bad.path.write_bytes(opened.images[2].read()[:200])
    data = replace(opened, images=(*opened.images[:2], bad, *opened.images[3:]))
    found, whole = told(data, 3), told(opened, 3)
    assert "cut.jpg" in found.unreadable[0] and bad.image_id not in found.by_image
    for image_id, one in found.by_image.items():
        assert one.scores == pytest.approx(whole.by_image[image_id].scores)
