"""How many of the objects that two runs of a detector find in the same images are the same objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.tasks.detections import Detections

# Objects count above this score, and match from this overlap on.
LEAST_SCORE, LEAST_IOU = 0.3, 0.5


def matched_pct(
    reference: Sequence[Detections], found: Sequence[Detections], least_score: float = LEAST_SCORE
) -> float | None:
    """Return how many objects match, in per cent: twice the pairs over the objects of both, which is the F1 score.

    A pair has one label and overlaps by half of its union at least; the likeliest objects are paired first, each once.
    Objects up to the least score do not count. None if neither has any other.
    """
    pairs = total = 0
    for one, other in zip(reference, found, strict=True):
        one, other = _above(one, least_score), _above(other, least_score)
        total += len(one) + len(other)
        pairs += len(paired(one, other))
    return 200 * pairs / total if total else None


def paired(reference: Detections, found: Detections) -> list[tuple[int, int]]:
    """Return the pairs of an image's objects, as the index of the reference's and of the found one; see above."""
    if not len(reference) or not len(found):
        return []
    overlap = np.where(reference.labels[:, None] == found.labels[None], _iou(reference.boxes, found.boxes), 0)
    pairs = []
    for index in range(len(found)):
        at = int(overlap[:, index].argmax())
        if overlap[at, index] >= LEAST_IOU:
            pairs.append((at, index))
            overlap[at] = 0
    return pairs


def _above(found: Detections, score: float) -> Detections:
    is_likely = found.scores > score
    return Detections(found.boxes[is_likely], found.scores[is_likely], found.labels[is_likely])


def _iou(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    overlap: npt.NDArray[np.float32] = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
    return overlap
