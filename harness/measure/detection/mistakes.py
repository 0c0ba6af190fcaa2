"""Finds the mistakes that make a detector's results score low, or not at all, and names them instead of a number.

A mistake of a convention, such as ids from 0 to 79 for COCO's 1 to 90, leaves an AP that looks like a bad model's. It
is found by undoing it: if the results agree with the objects far better once it is undone, it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from harness.data import Objects
from harness.data.coco.categories import COCO_CATEGORIES
from harness.measure.detection.conventions import BOX_MISTAKES, Boxes, Relabel, label_mistakes
from models.tasks import WrongAnswers
from models.tasks.detections import Detections

# An image is one of those that were not run, or a result is there twice, where more than this share is.
MOST_EMPTY, MOST_REPEATED = 0.2, 0.2
# The ten ids that COCO's categories leave out are classes of many networks, and never trained.
MOST_UNKNOWN = 0.05
# A mistake was made if undoing it multiplies the agreement by so much, and adds so much to it.
LEAST_FACTOR, LEAST_GAIN = 2.0, 0.15
# Fewer objects than this tell nothing of a convention, or of two categories.
LEAST_PAIRS, LEAST_SWAPPED = 10, 3
# The images, in the order of their ids, on which a convention is looked into.
LOOKED_AT = 500
_OVERLAP = 0.5
_NORMALISED_PX = 2.0


def require_scorable(objects: Objects, found: Mapping[int, Detections]) -> None:
    """Check that the results are no product of a known mistake.

    Args:
        objects: what the annotations mark.
        found: the detections in each image that was run, by the image's id.

    Raises:
        WrongAnswers: they are; the message names the mistake.
    """
    total = sum(map(len, found.values()))
    if not total:
        raise WrongAnswers(f"none of {len(found):,} images has a detection: there is nothing to score")
    _require_numbers(found, total)
    with_objects = {one.image_id for one in objects.marked if not one.is_crowd} & found.keys()
    empty = sorted(image_id for image_id in with_objects if not len(found[image_id]))
    if len(empty) > MOST_EMPTY * len(with_objects):
        raise WrongAnswers(
            f"{len(empty):,} of {len(with_objects):,} images with objects have no detection, such as image {empty[0]}: "
            f"images that were not run must not be evaluated; name the ids of those that were"
        )
    repeated = sum(map(_repeated, found.values()))
    if repeated > MOST_REPEATED * total:
        raise WrongAnswers(
            f"{repeated:,} of {total:,} detections are there twice, with one box and one category in one image: "
            f"results were written twice, or nothing suppresses overlapping boxes"
        )
    looked_at = sorted(with_objects)[:LOOKED_AT]
    likely = {image_id: found[image_id] for image_id in looked_at}
    _require_boxes(objects, likely)
    _require_labels(objects, likely)


def _require_numbers(found: Mapping[int, Detections], total: int) -> None:
    scores = np.concatenate([one.scores for one in found.values()])
    boxes = np.concatenate([one.boxes for one in found.values()])
    for name, values in (("scores", scores), ("boxes", boxes.sum(axis=1))):
        broken = int((~np.isfinite(values)).sum())
        if broken:
            raise WrongAnswers(
                f"{broken:,} of {total:,} {name} are NaN or infinite: an evaluation would keep them without a word"
            )
    if scores.min() < 0 or scores.max() > 1:
        raise WrongAnswers(
            f"scores go from {scores.min():.3g} to {scores.max():.3g}, and are no probabilities: are they raw logits?"
        )
    if np.abs(boxes).max() <= _NORMALISED_PX:
        raise WrongAnswers(
            "all boxes lie within 2 pixels: they are normalised; multiply them by the width and the height of their "
            "image"
        )


def _repeated(found: Detections) -> int:
    """Return how many of the detections are the same as another one of the image but for the score."""
    rows = np.column_stack([found.boxes, found.labels])
    return len(rows) - len(np.unique(rows, axis=0))


def _require_boxes(objects: Objects, found: Mapping[int, Detections]) -> None:
    marked = _objects_of(objects, found)

    def agreement(undo: Callable[[Boxes, tuple[int, int]], Boxes]) -> float:
        hits = [
            _overlaps(undo(_likeliest(found[image_id], len(boxes)), objects.sizes[image_id]), boxes).max(axis=1)
            for image_id, (boxes, _) in marked.items()
            if len(found[image_id])
        ]
        return float((np.concatenate(hits) >= _OVERLAP).mean()) if hits else 0.0

    if sum(len(boxes) for boxes, _ in marked.values()) < LEAST_PAIRS:
        return
    as_found = agreement(lambda boxes, size: boxes)
    undone = {words: agreement(undo) for words, undo in BOX_MISTAKES.items()}
    words = max(undone, key=lambda name: undone[name])
    if _is_better(undone[words], as_found):
        raise WrongAnswers(
            f"{words}: {100 * as_found:.0f}% of the likeliest boxes lie on an object, and {100 * undone[words]:.0f}% "
            f"once that is undone"
        )


def _require_labels(objects: Objects, found: Mapping[int, Detections]) -> None:
    pairs = list(_label_pairs(objects, found))
    if len(pairs) < LEAST_PAIRS:
        return

    def agreement(relabel: Relabel) -> float:
        right = 0
        for category, labels in pairs:
            right += next((new for label in labels if (new := relabel(label)) is not None), None) == category
        return right / len(pairs)

    as_found = agreement(lambda label: label)
    undone = {words: agreement(relabel) for words, relabel in label_mistakes(sorted(objects.categories)).items()}
    words = max(undone, key=lambda name: undone[name])
    if _is_better(undone[words], as_found):
        raise WrongAnswers(
            f"{words}: {100 * as_found:.0f}% of the objects that are found get their category, and "
            f"{100 * undone[words]:.0f}% once that is undone"
        )
    # a set may be annotated with some of COCO's categories, and a detector know them all
    unknown = [labels[0] for _, labels in pairs if labels[0] not in objects.categories.keys() | COCO_CATEGORIES.keys()]
    if len(unknown) > MOST_UNKNOWN * len(pairs):
        raise WrongAnswers(
            f"{len(unknown):,} of {len(pairs):,} objects get categories that the annotations do not have, such as "
            f"{min(unknown)}: an evaluation would leave them out without a word"
        )
    _require_unswapped(objects, pairs)


def _require_unswapped(objects: Objects, pairs: Sequence[tuple[int, Sequence[int]]]) -> None:
    counts: dict[tuple[int, int], int] = {}
    for category, labels in pairs:
        counts[category, labels[0]] = counts.get((category, labels[0]), 0) + 1
    for one, other in combinations(sorted(objects.categories), 2):
        crossed = counts.get((one, other), 0), counts.get((other, one), 0)
        right = counts.get((one, one), 0), counts.get((other, other), 0)
        if min(crossed) >= LEAST_SWAPPED and all(
            wrong > LEAST_FACTOR * kept for wrong, kept in zip(crossed, right, strict=True)
        ):
            names = objects.categories[one], objects.categories[other]
            raise WrongAnswers(
                f"the categories {names[0]} and {names[1]} are swapped: {crossed[0]} of the one are taken for the "
                f"other and {crossed[1]} the other way, {right[0]} and {right[1]} are right"
            )


def _is_better(undone: float, as_found: float) -> bool:
    return undone > LEAST_FACTOR * as_found and undone - as_found > LEAST_GAIN


def _objects_of(
    objects: Objects, found: Mapping[int, Detections]
) -> dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """Return the corners and the categories of the objects of each image, without crowds."""
    boxes: dict[int, list[tuple[float, ...]]] = {}
    categories: dict[int, list[int]] = {}
    for one in objects.marked:
        if one.image_id in found and not one.is_crowd:
            x, y, width, height = one.box
            boxes.setdefault(one.image_id, []).append((x, y, x + width, y + height))
            categories.setdefault(one.image_id, []).append(one.category_id)
    return {image_id: (np.array(boxes[image_id]), np.array(categories[image_id])) for image_id in boxes}


def _likeliest(found: Detections, count: int) -> Boxes:
    """Return the boxes of the highest scores, as many as there are objects."""
    boxes: Boxes = found.boxes[np.argsort(-found.scores, kind="stable")[:count]].astype(np.float64)
    return boxes


def _label_pairs(objects: Objects, found: Mapping[int, Detections]) -> list[tuple[int, list[int]]]:
    """Return, for each object that a box lies on, its category and the labels of those boxes, the likeliest first."""
    pairs = []
    for image_id, (boxes, categories) in _objects_of(objects, found).items():
        detections = found[image_id]
        order = np.argsort(-detections.scores, kind="stable")
        overlaps = _overlaps(detections.boxes[order].astype(np.float64), boxes)
        for at, category in enumerate(categories):
            labels = detections.labels[order][overlaps[:, at] >= _OVERLAP].tolist()
            if labels:
                pairs.append((int(category), labels))
    return pairs


def _overlaps(boxes: Boxes, others: Boxes) -> Boxes:
    """Return intersection over union of corners, [boxes, others]. A box that is turned inside out overlaps nothing."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(one[:, 2:] - one[:, :2], 0), axis=1) for one in (boxes, others)]
    overlap: Boxes = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
    return overlap
