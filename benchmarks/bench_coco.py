"""What the evaluation of a detector costs: none of it is in a clock, and none of it should be waited for."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from harness.measure.detection.comparison import DRAWS, compare_ap, draw_ap
from harness.measure.detection.evaluation import evaluate, evaluator
from harness.measure.detection.mistakes import require_scorable
from selftests.coco_sets import marked_images, results_of

# As many as val2017 has, with about as many objects, and the most detections that are evaluated.
IMAGES, DETECTIONS = 5_000, 100


def time_evaluation() -> list[str]:
    """Time the evaluation of val2017's number of images, alone, and with its interval and the comparison."""
    objects = marked_images(IMAGES)
    found, other = (results_of(objects, seed, noise=DETECTIONS) for seed in (0, 1))
    count = sum(min(len(one), DETECTIONS) for one in found.values())
    began = perf_counter()
    require_scorable(objects, found)
    looked_s = perf_counter() - began
    began = perf_counter()
    evaluate(objects, found)
    evaluated_s = perf_counter() - began
    began = perf_counter()
    compare_ap(draw_ap(objects, other), draw_ap(objects, found), IMAGES, 1.0)
    drawn_s = perf_counter() - began
    return [
        f"{count:,} detections in {IMAGES:,} images: {looked_s:.1f} s to look for mistakes (under 5), "
        f"{evaluated_s:.1f} s by {evaluator()} (under 15), {drawn_s:.1f} s for {DRAWS} draws of two models (under 60)"
    ]


COMPARISONS: dict[str, Callable[[], list[str]]] = {"evaluation of all of val2017": time_evaluation}
