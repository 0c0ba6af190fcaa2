"""Checks that a server's answers are the model's own answers to the images that were sent.

Wrong answers are told apart by kind: another image's (swapped or stale), empty, or those of other weights.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from models.tasks import WrongAnswers
from models.tasks.classify import EXACT_DB, LEAST_SPREAD, Logits, spread

SHOWN = 3


def rows_of_outputs(outputs: Iterable[npt.NDArray[np.float32]]) -> Logits:
    """Return the numbers of several outputs [n, …] as rows [n, numbers], one output behind the other."""
    rows = [array.reshape(len(array), -1) for array in outputs]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)


def answers_db(
    reference: Logits, images: Sequence[Sequence[int]], answers: Sequence[Logits], widths: Sequence[int] = ()
) -> list[float]:
    """Return the signal-to-noise ratio of each image's answer in dB, in the order in which the images were sent.

    The ratio is that of `models.tasks.classify.sqnr_db`, but for one image at a time. The signal is the difference of
    the image's reference logits from the mean over all images, so that another image's answer gets about -3 dB. Of a
    model with several outputs it is that of the worst of them, because one may be right and another not.

    Args:
        reference: the model's own logits, computed in process, [n, classes]; or the numbers of all its outputs.
        images: for each request, the indices of the reference images that it sent.
        answers: for each request, the logits that it got, [images, classes]; or the numbers of all outputs.
        widths: how many numbers of a row belong to each output, in their order; none for one output.

    Raises:
        WrongAnswers: if an answer has another shape, or if the reference logits do not tell the images apart.
    """
    for asked, answer in zip(images, answers, strict=True):
        if answer.shape != (len(asked), reference.shape[1]):
            raise WrongAnswers(f"an answer has shape {answer.shape}, not {(len(asked), reference.shape[1])}")
    which = [image for asked in images for image in asked]
    rows = np.concatenate(answers)
    ends = np.cumsum(widths or (reference.shape[1],))
    outputs = [slice(end - width, end) for end, width in zip(ends, widths or (reference.shape[1],), strict=True)]
    found = [_output_db(reference[:, one], which, rows[:, one]) for one in outputs]
    return [min(of_image) for of_image in zip(*found, strict=True)]


def _output_db(reference: Logits, which: Sequence[int], rows: Logits) -> list[float]:
    """Return the signal-to-noise ratio of each row of one output in dB."""
    if spread(reference) < LEAST_SPREAD:
        raise WrongAnswers(
            f"the model's answers differ by only {100 * spread(reference):.2f}% between images, so wrong ones could "
            f"not be told from right ones; use weights and images that give different answers"
        )
    own = reference[which].astype(np.float64)
    signal = np.linalg.norm(own - reference.mean(axis=0), axis=1)
    noise = np.linalg.norm(rows.astype(np.float64) - own, axis=1)
    return [_db(float(s), float(n)) for s, n in zip(signal, noise, strict=True)]


def _db(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -EXACT_DB
    return EXACT_DB if noise == 0 else min(EXACT_DB, 20 * math.log10(max(signal, 1e-30) / noise))


def require_own_answers(
    reference: Logits,
    images: Sequence[Sequence[int]],
    answers: Sequence[Logits],
    floor_db: float,
    widths: Sequence[int] = (),
) -> float:
    """Return the worst answer's signal-to-noise ratio in dB, or raise an error if it is below `floor_db`.

    The other arguments are those of `answers_db`.

    Raises:
        WrongAnswers: if an answer is below the floor; the message says what kinds of mistake there are.
    """
    found = answers_db(reference, images, answers, widths)
    which = [image for asked in images for image in asked]
    rows = np.concatenate(answers)
    wrong = [place for place, db in enumerate(found) if db < floor_db]
    if wrong:
        kinds = Counter(_kind(reference, which[place], rows[place]) for place in wrong)
        listed = "; ".join(f"{count} {kind}" for kind, count in kinds.most_common(SHOWN))
        raise WrongAnswers(
            f"{len(wrong)} of {len(found)} answers are not the model's own ({min(found):.1f} dB at worst, the floor is "
            f"{floor_db:.0f} dB): {listed}; the first is that to request "
            f"{_request_of(images, wrong[0])}, image {which[wrong[0]]}"
        )
    return min(found)


def _kind(reference: Logits, image: int, answer: Logits) -> str:
    if not np.isfinite(answer).all():
        return "with NaN or infinity"
    if not answer.any():
        return "all zeros"
    nearest = int(np.linalg.norm(reference - answer, axis=1).argmin())
    return "another image's" if nearest != image else "of other weights, or too short a format"


def _request_of(images: Sequence[Sequence[int]], place: int) -> int:
    for number, asked in enumerate(images):
        if place < len(asked):
            return number
        place -= len(asked)
    raise IndexError(place)
