"""Judging what a detector found: the record, the conditions that it has to satisfy, and those that it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import ClassVar

from harness.data import DECODER, Objects
from harness.measure.accuracy.judge import WORST, Gate, below_floors, floor_of, unread_by_reference
from harness.measure.accuracy.run import Sample
from harness.measure.accuracy.thresholds import Floor, Interval, Verdict
from harness.measure.detection.comparison import DRAWS, PairedAp, compare_ap, draw_ap
from harness.measure.detection.evaluation import CocoScores, evaluate, evaluator
from harness.measure.detection.mistakes import require_scorable
from harness.measure.detection.run import Found
from harness.proof import Contradiction
from models.catalog import ModelSpec
from models.tasks import WrongAnswers
from models.tasks.detections import Detections
from models.tasks.matched import matched_pct

# How far the two computations of one AP may lie apart, in points: the library's, and that of the draws.
MOST_APART_POINTS = 1e-6


@dataclass(frozen=True)
class ObjectAccuracy:
    """The average precision of a detector on annotated images, and how it was judged.

    Attributes:
        ap: average precision over overlaps from 0.50 to 0.95, with its 95% interval.
        ap50: average precision at an overlap of 0.50, with its 95% interval.
        ap75: the same at 0.75.
        scores: all twelve numbers of COCO's evaluation, and the AP of each category.
        absolute: whether AP and AP50 reach their floors; `not gated` if there is no floor.
        ap_floor: the floor of AP and how it was derived, None without a floor.
        ap50_floor: the floor of AP50 and how it was derived, None without a floor.
        paired: the comparison with the fp32 CPU reference on the same images; None if this is the reference.
        matched_pct: how many detections above a score of 0.3 match those of the reference (F1 at an overlap of 0.5), in
            per cent; None if this is the reference, or if neither has any.
        images: the number of images that were read and answered.
        unreadable_images: the number of files that could not be decoded and were left out.
        images_in_data: the number of images in the whole data set.
        objects: the number of objects that are marked in the images, without crowds.
        crowds: the number of crowds, which count neither as found nor as missed.
        detections: the number of detections that were evaluated, at most a hundred an image.
        draws: the number of draws of images for the intervals and the comparison.
        images_per_second: the rate from files to boxes: all files of the sample over wall time.
        wall_s: the wall time of the run over the images, in seconds.
        evaluation_s: the seconds that matching, scoring and comparing took, which are in no other number.
        mean_batch_interval_ms: the wall time divided by the number of batches, in milliseconds; because decoding and
            the model overlap, it is not a latency.
        data: the name of the data set, as the user gave it.
        data_route: how the data set was read.
        is_validation_set: whether the data set was recognised as the whole val2017 of COCO.
        sample_seed: the seed of the random draw of the sample.
        sample_sha256: a hash of which images were used, in which order.
        answers_sha256: a hash of the boxes, scores and categories of every image: the same where all answers are.
        evaluator: the name and version of the library that evaluated.
        decoder: the name and version of the decoding library.
        workers: the number of threads that decoded.
    """

    kind: ClassVar[str] = "coco"

    ap: Interval
    ap50: Interval
    ap75: Interval
    scores: CocoScores
    absolute: Verdict
    ap_floor: Floor | None
    ap50_floor: Floor | None
    paired: PairedAp | None
    matched_pct: float | None
    images: int
    unreadable_images: int
    images_in_data: int
    objects: int
    crowds: int
    detections: int
    draws: int
    images_per_second: float
    wall_s: float
    evaluation_s: float
    mean_batch_interval_ms: float
    data: str
    data_route: str
    is_validation_set: bool
    sample_seed: int
    sample_sha256: str
    answers_sha256: str
    evaluator: str
    decoder: str
    workers: int


@dataclass(frozen=True)
class JudgedObjects:
    """An average precision together with details that are not part of its record.

    Attributes:
        accuracy: the record.
        found: what the candidate found.
        worst_categories: descriptions of the categories that lost most against the reference; empty if the gates hold.
        failures: descriptions of the conditions that do not hold; empty if the test passes.
    """

    accuracy: ObjectAccuracy
    found: Found
    worst_categories: Sequence[str]
    failures: Sequence[str] = field(default=())


def judge_objects(
    found: Found, reference: Found | None, sample: Sample, spec: ModelSpec, gate: Gate, workers: int
) -> JudgedObjects:
    """Compute the average precision of what was found, and find the conditions that it fails.

    Args:
        found: what the candidate found.
        reference: what the fp32 CPU reference found in the same images; None if the candidate is the reference.
        sample: the images.
        spec: the catalogue row of the model.
        gate: the conditions that the average precision has to satisfy.
        workers: the number of threads that decoded.

    Raises:
        WrongAnswers: the results show a known mistake, there is no object in the images, or the reference could not
            read one that the candidate did.
        Contradiction: the two computations of AP disagree.
    """
    objects = sample.data.objects
    assert objects is not None, "the images are not annotated"
    began = perf_counter()
    mine = found.by_image
    marked = [one for one in objects.marked if one.image_id in mine]
    crowds = sum(one.is_crowd for one in marked)
    if len(marked) == crowds:
        raise WrongAnswers(f"no object is marked in these {len(mine):,} images: run more of them")
    require_scorable(objects, mine)
    scores = evaluate(objects, mine)
    drawn = draw_ap(objects, mine, sample.seed)
    ap, ap50, ap75 = drawn.intervals()
    if scores.ap_pct is None or abs(ap.pct - scores.ap_pct) > MOST_APART_POINTS:
        raise Contradiction(f"AP is {scores.ap_pct} by {evaluator()} and {ap.pct} by the matches that are drawn from")
    paired: PairedAp | None = None
    matched: float | None = None
    if reference is not None:
        if lacking := sum(image_id not in reference.by_image for image_id in mine):
            raise unread_by_reference(lacking, reference.unreadable)
        other = {image_id: reference.by_image[image_id] for image_id in mine}
        paired = compare_ap(draw_ap(objects, other, sample.seed), drawn, len(mine), spec.margin_pct)
        matched = matched_pct(list(other.values()), list(mine.values()))
    floors = floors_of(spec, sample, gate)
    absolute, failures = below_floors((("AP", ap, floors[0]), ("AP50", ap50, floors[1])))
    if paired is not None and gate.denies(paired.verdict):
        failures.append(f"AP {ap}: {paired}")
    worst = _worst_categories(objects, scores, other) if failures and reference is not None else []
    failures += gate.unreadable(found.unreadable)
    accuracy = ObjectAccuracy(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        scores=scores,
        absolute=absolute,
        ap_floor=floors[0],
        ap50_floor=floors[1],
        paired=paired,
        matched_pct=matched,
        images=len(mine),
        unreadable_images=len(found.unreadable),
        images_in_data=len(sample.data.images),
        objects=len(marked) - crowds,
        crowds=crowds,
        detections=found.count(),
        draws=DRAWS,
        images_per_second=len(sample.images) / found.wall_s,
        wall_s=found.wall_s,
        evaluation_s=perf_counter() - began,
        mean_batch_interval_ms=1e3 * found.wall_s / found.batches,
        data=sample.data.name,
        data_route=sample.data.route,
        is_validation_set=sample.data.is_validation_set,
        sample_seed=sample.seed,
        sample_sha256=sample.sha256(),
        answers_sha256=found.sha256(),
        evaluator=evaluator(),
        decoder=DECODER,
        workers=workers,
    )
    return JudgedObjects(accuracy, found, worst, failures)


def floors_of(spec: ModelSpec, sample: Sample, gate: Gate) -> tuple[Floor | None, Floor | None]:
    """Return the floors of AP and AP50, None where there is none.

    The user's floor takes precedence. The published AP is a floor for all of val2017 alone: a part of it has a higher
    AP, by a fifth for a hundred images.
    """
    is_whole = sample.data.is_validation_set and len(sample.images) == len(sample.data.images)
    scores = spec.published if is_whole else {}
    own, own50 = (
        None if pct is None else Floor(pct, f"by {name}")
        for name, pct in (("--min-map", gate.min_map_pct), ("--min-map50", gate.min_map50_pct))
    )
    return floor_of(own, scores.get("ap"), spec, sample), floor_of(own50, scores.get("ap50"), spec, sample)


def _worst_categories(objects: Objects, scores: CocoScores, reference: Mapping[int, Detections]) -> list[str]:
    """Describe the categories whose AP lost most against the reference's."""
    before, now = evaluate(objects, reference).ap_by_category_pct, scores.ap_by_category_pct
    lost = {name: before[name] - now[name] for name in before if before[name] > now[name]}
    worst = sorted(lost, key=lambda name: (-lost[name], name))
    return [f"{name}: AP {before[name]:.1f}% to {now[name]:.1f}%" for name in worst[:WORST]]
