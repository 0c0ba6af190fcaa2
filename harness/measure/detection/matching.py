"""Which detections match which objects, found once, so that AP can be told for any weighting of the images.

It is COCO's matching of all sizes, and the average precision of it. Weights say how often each image counts, which
makes a resampled set of images a sum with other weights instead of another evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.data import MarkedObject, Objects
from harness.measure.detection.evaluation import MOST_DETECTIONS
from models.tasks.detections import Detections

# As faster-coco-eval and pycocotools compute them, to the last digit.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# How many numbers are held at once for the weightings of one category.
_CELLS = 4_000_000

Weights = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MatchedCategory:
    """The detections of one category in all images, the likeliest first.

    Attributes:
        image: which of the images each is in, int [n].
        is_right: whether it matches an object, at each overlap, bool [10, n].
        is_ignored: whether it matches a crowd and counts neither way, at each overlap, bool [10, n].
        objects: how many objects of the category each image has, without crowds, [images].
    """

    image: npt.NDArray[np.int64]
    is_right: Flags
    is_ignored: Flags
    objects: Weights


def match(objects: Objects, found: Mapping[int, Detections]) -> list[MatchedCategory]:
    """Match the detections in each image with its objects, for every category that has an object.

    Args:
        objects: what the annotations mark.
        found: the detections in each image that was run, by the image's id.
    """
    marked: dict[tuple[int, int], list[MarkedObject]] = defaultdict(list)
    for one in objects.marked:
        if one.image_id in found:
            marked[one.category_id, one.image_id].append(one)
    index = {image_id: at for at, image_id in enumerate(sorted(found))}
    rows: dict[int, list[tuple[int, npt.NDArray[np.intp]]]] = defaultdict(list)
    for image_id in index:
        labels = found[image_id].labels
        for category in np.unique(labels):
            rows[int(category)].append((image_id, np.flatnonzero(labels == category)))
    categories = []
    for category in sorted(objects.categories):
        counts = np.zeros(len(index))
        for image_id, at in index.items():
            counts[at] = sum(not one.is_crowd for one in marked.get((category, image_id), ()))
        if not counts.any():
            continue
        images, scores, right, ignored = [], [], [], []
        for image_id, mine in rows[category]:
            detections = found[image_id]
            order = mine[np.argsort(-detections.scores[mine], kind="stable")][:MOST_DETECTIONS]
            hit, skipped = _match_image(detections.boxes[order], marked.get((category, image_id), ()))
            images.append(np.full(len(order), index[image_id]))
            scores.append(detections.scores[order])
            right.append(hit)
            ignored.append(skipped)
        if not images:
            nothing = np.zeros((len(OVERLAPS), 0), bool)
            categories.append(MatchedCategory(np.zeros(0, np.int64), nothing, nothing, counts))
            continue
        order = np.argsort(-np.concatenate(scores), kind="stable")
        categories.append(
            MatchedCategory(
                np.concatenate(images)[order],
                np.concatenate(right, 1)[:, order],
                np.concatenate(ignored, 1)[:, order],
                counts,
            )
        )
    return categories


def _match_image(boxes: npt.NDArray[np.float32], marked: Sequence[MarkedObject]) -> tuple[Flags, Flags]:
    """Match detections with the objects of one category in one image. Each object is matched once, a crowd often."""
    right = np.zeros((len(OVERLAPS), len(boxes)), bool)
    ignored = np.zeros_like(right)
    if not len(boxes) or not marked:
        return right, ignored
    overlap = _overlaps(boxes, marked)
    crowd = np.array([one.is_crowd for one in marked])
    taken = np.zeros((len(OVERLAPS), len(marked)), bool)
    reach = OVERLAPS[:, None]
    for at in np.flatnonzero(overlap.max(axis=1) >= OVERLAPS[0]):
        row = overlap[at]
        free = np.where(~taken & ~crowd & (row >= reach), row, -1.0)
        # of equal overlaps the last object, as COCO's loop does
        best = len(marked) - 1 - free[:, ::-1].argmax(axis=1)
        hit = free[np.arange(len(OVERLAPS)), best] >= 0
        taken[hit, best[hit]] = True
        right[:, at] = hit
        ignored[:, at] = ~hit & (crowd & (row >= reach)).any(axis=1)
    return right, ignored


def _overlaps(boxes: npt.NDArray[np.float32], marked: Sequence[MarkedObject]) -> Weights:
    """Return intersection over union, [detections, objects]; of a crowd, intersection over the detection."""
    from faster_coco_eval import mask

    found = boxes.astype(np.float64)
    found[:, 2:] -= found[:, :2]
    overlaps: Weights = np.asarray(
        mask.iou(found, np.array([one.box for one in marked]), [int(one.is_crowd) for one in marked])
    )
    return overlaps


def average_precision(categories: Sequence[MatchedCategory], weights: Weights) -> Weights:
    """Return the average precision at each overlap, the mean over the categories, for several weightings of the images.

    Args:
        categories: the matched detections.
        weights: how often each image counts, [weightings, images].

    Returns:
        Shares from 0 to 1, [weightings, 10]; NaN where no object counts.
    """
    total = np.zeros((len(weights), len(OVERLAPS)))
    present = np.zeros((len(weights), 1))
    for one in categories:
        step = max(1, _CELLS // max(1, len(one.image)))
        objects = weights @ one.objects
        for begin in range(0, len(weights), step):
            some = slice(begin, begin + step)
            total[some] += np.where(objects[some, None] > 0, _category_precision(one, weights[some], objects[some]), 0)
        present += objects[:, None] > 0
    with np.errstate(invalid="ignore"):
        return total / present


def _category_precision(one: MatchedCategory, weights: Weights, objects: Weights) -> Weights:
    """Return the average precision of one category at each overlap, [weightings, 10]."""
    counted = weights[:, one.image]
    precision = np.zeros((len(weights), len(OVERLAPS)))
    ever_ignored = one.is_ignored.any()
    seen = np.cumsum(counted, axis=1)
    for at in range(len(OVERLAPS)):
        hits = np.flatnonzero(one.is_right[at])
        if not len(hits):
            continue
        if ever_ignored:
            seen = np.cumsum(np.where(one.is_ignored[at], 0, counted), axis=1)
        right = np.cumsum(counted[:, hits], axis=1)
        share = right / np.maximum(seen[:, hits], np.spacing(1))
        best = np.maximum.accumulate(share[:, ::-1], axis=1)[:, ::-1]
        recall = right / np.maximum(objects, np.spacing(1))[:, None]
        reached = np.searchsorted(RECALLS, recall, side="right")
        precision[:, at] = (np.diff(reached, axis=1, prepend=0) * best).sum(axis=1) / len(RECALLS)
    return precision
