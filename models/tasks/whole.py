"""The answers of a detector that makes its objects itself: sets of objects, read and compared as sets.

Two right sets may have their objects in another order, and where scores are nearly equal a few other objects. Row by
row, their difference would say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.detectors.whole import BOXES, LABELS, SCORES, WHOLE
from models.tasks.classify import EXACT_DB
from models.tasks.detections import Detections
from models.tasks.matched import matched_pct, paired
from models.tasks.outputs import Outputs
from models.tasks.protocol import Agreement, WrongAnswers


def is_whole(outputs: Outputs) -> bool:
    """Return whether outputs are objects and no raw heads."""
    return outputs.names == WHOLE


def objects_in(outputs: Outputs) -> list[Detections]:
    """Return the objects of each image, the likeliest first, in pixels of the input. A score of zero is no object.

    Raises:
        WrongAnswers: a number is not finite.
    """
    for name, array in zip(outputs.names, outputs, strict=True):
        if not np.isfinite(array).all():
            raise WrongAnswers(f"{name} of objects are NaN or infinite")
    found = []
    for boxes, scores, labels in zip(outputs[BOXES], outputs[SCORES], outputs[LABELS], strict=True):
        is_object = scores > 0
        found.append(Detections(boxes[is_object], scores[is_object], labels[is_object].astype(np.int64)))
    return found


def compare_sets(reference: Sequence[Detections], found: Sequence[Detections]) -> Agreement:
    """Return how near sets of objects are to the reference's of the same images.

    The agreement has the share of objects that match, and the ratio of `sets_db` as its ratio of signal to noise.

    Raises:
        WrongAnswers: the reference has no object.
    """
    share = matched_pct(reference, found, 0.0)
    if share is None or not all(map(len, reference)):
        raise WrongAnswers("the reference finds no object in an image, so wrong objects could not be told from right")
    return Agreement(sets_db(reference, found), share, matched_pct=share)


def sets_db(reference: Sequence[Detections], found: Sequence[Detections]) -> float:
    """Return the ratio of signal to noise of sets of objects in dB.

    The noise of an object is how far its corners and its score are off, as a share of its size and of its score; that
    of one which nothing matches is 1. An image counts with the median of its objects, so that a few objects for which
    suppression has decided otherwise do not hide the format; how many those are, the share of matches says.
    """
    noise = [_median_noise(one, other) for one, other in zip(reference, found, strict=True)]
    mean = math.sqrt(float(np.mean(np.square(noise))))
    return EXACT_DB if mean == 0 else min(EXACT_DB, -20 * math.log10(mean))


def _median_noise(reference: Detections, found: Detections) -> float:
    shares: npt.NDArray[np.float64] = np.ones(len(reference))
    for at, index in paired(reference, found):
        box = reference.boxes[at].astype(np.float64)
        size = max(float(np.hypot(*(box[2:] - box[:2]))), 1e-6)
        corners = float(np.linalg.norm(found.boxes[index] - box)) / size
        score = float(abs(found.scores[index] / max(reference.scores[at], 1e-12) - 1))
        shares[at] = min(1.0, max(corners, score))
    return float(np.median(shares))


def describe_wrong_sets(reference: Sequence[Detections], found: Sequence[Detections]) -> str:
    """Return what kind of wrong sets of objects are: those of other images, or none that the reference finds."""
    told = f"{matched_pct(reference, found, 0.0) or 0.0:.0f}% of the objects match"
    if not any(map(len, found)):
        return f"{told}: nothing is found"
    nearest = [max(range(len(reference)), key=lambda at: len(paired(reference[at], own))) for own in found]
    swapped = sum(at != index for index, at in enumerate(nearest))
    if swapped and len(set(nearest)) == len(reference):
        return f"{told}: {swapped} of {len(reference)} images get another image's objects: outputs are permuted"
    return f"{told}: other weights, images, labels or coordinates, or too short a format"
