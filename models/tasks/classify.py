"""The task of classification: one output, `logits` [n, classes], compared by signal to quantisation noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from models.catalog import ModelSpec
from models.preprocess import build_byte_transform, build_transform, generated_images, normalise
from models.tasks.outputs import Outputs
from models.tasks.protocol import Agreement, Pixels, Scores, WrongAnswers

Logits = npt.NDArray[np.float32]

OUTPUT = "logits"
# The number of ranks that are kept of each answer: a top-5 accuracy needs no more.
TOP = 5
# The SQNR of identical logits, which have no noise, so that the record holds a number all the same.
EXACT_DB = 200.0
# The reference's logits must differ between images by this share, or swapped answers could not be told from right ones.
LEAST_SPREAD = 0.02


def transform(spec: ModelSpec) -> Pixels:
    """See `Task.transform`."""
    return build_transform(spec)


def byte_transform(spec: ModelSpec) -> Pixels:
    """Return the evaluation transform without the normalisation; its result is uint8 [3, h, w]."""
    return build_byte_transform(spec)


def generated(spec: ModelSpec, count: int, seed: int = 0) -> Tensor:
    """See `Task.generated`."""
    return normalise(generated_images(count, spec.input.size, seed), spec.input)


def decode(outputs: Outputs, sizes: Sequence[tuple[int, int]] | None = None) -> list[int]:
    """See `Task.decode`. An answer is the index of the likeliest class."""
    return [int(index) for index in outputs[OUTPUT].argmax(axis=1)]


def packed(answers: Sequence[Any]) -> npt.NDArray[Any]:
    """See `Task.packed`. A row is the index of the class, int64 [n, 1]."""
    return np.array(answers, np.int64)[:, None]


def labels(outputs: Outputs) -> int:
    """See `Task.labels`. The labels are the classes."""
    return int(outputs[OUTPUT].shape[1])


def compare(reference: Outputs, found: Outputs) -> Agreement:
    """See `Task.compare`."""
    return Agreement(sqnr_db(reference[OUTPUT], found[OUTPUT]), top1_agreement_pct(reference[OUTPUT], found[OUTPUT]))


def describe_wrong(reference: Outputs, found: Outputs) -> str:
    """See `Task.describe_wrong`. It tells other images' answers and one answer for all from everything else."""
    return describe_wrong_logits(reference[OUTPUT], found[OUTPUT])


def findings(reference: Outputs, found: Outputs) -> dict[str, Any]:
    """See `Task.findings`. There is nothing more to say."""
    return {}


def ranked(outputs: Outputs) -> npt.NDArray[np.int16]:
    """See `Task.ranked`. The first five classes are kept. Equal logits give the same order on every machine."""
    order: npt.NDArray[np.int16] = np.argsort(-outputs[OUTPUT], axis=1, kind="stable")[:, :TOP].astype(np.int16)
    return order


def score(ranked: npt.NDArray[np.int16], labels: Sequence[int] | npt.NDArray[np.int16]) -> Scores:
    """See `Task.score`. For `top1` the label has to be the likeliest class, for `top5` one of the first five."""
    hits = ranked == np.asarray(labels)[:, None]
    return {"top1": hits[:, 0], "top5": hits.any(axis=1)}


def spread(reference: Logits) -> float:
    """Return how much the answers differ between images, from 0 to 1.

    It is the norm of their deviation from the mean over the images, divided by their norm.
    """
    centred = reference - reference.mean(axis=0)
    return float(np.linalg.norm(centred) / max(float(np.linalg.norm(reference)), 1e-30))


def sqnr_db(reference: Logits, logits: Logits) -> float:
    """Return the signal-to-quantisation-noise ratio in dB, over all images together.

    It is 20 log10(|signal| / |noise|). The noise is the difference from the reference. The signal is what tells the
    images apart: the reference less its mean over the images, so that another image's answer gets about -3 dB however
    alike the answers are.

    Args:
        reference: the reference logits, [n, classes], with n of at least 2.
        logits: the logits to compare, of the same images, [n, classes].

    Raises:
        WrongAnswers: if the logits are not finite or have another shape, or if the reference cannot tell images apart.
    """
    if logits.shape != reference.shape:
        raise WrongAnswers(f"logits have shape {logits.shape}, the reference has {reference.shape}")
    if not np.isfinite(logits).all():
        count = int(np.size(logits) - np.isfinite(logits).sum())
        raise WrongAnswers(f"{count} of {logits.size} logits are NaN or infinite")
    if spread(reference) < LEAST_SPREAD:
        raise WrongAnswers(
            f"the reference's logits differ by only {100 * spread(reference):.2f}% between images, so wrong answers "
            f"could not be told from right ones; use weights and images that give different answers"
        )
    signal = np.linalg.norm((reference - reference.mean(axis=0)).astype(np.float64))
    noise = np.linalg.norm((logits - reference).astype(np.float64))
    return EXACT_DB if noise == 0 else min(EXACT_DB, 20 * math.log10(float(signal / noise)))


def top1_agreement_pct(reference: Logits, logits: Logits) -> float:
    """Return the share of images with the same first class, in percent."""
    return float(100 * np.mean(reference.argmax(axis=1) == logits.argmax(axis=1)))


def describe_wrong_logits(reference: Logits, logits: Logits) -> str:
    """Return what kind of wrong the logits are: one answer for all images, answers of other images, or neither."""
    nearest = np.linalg.norm(logits[:, None] - reference[None], axis=2).argmin(axis=1)
    swapped = int((nearest != np.arange(len(reference))).sum())
    if spread(logits) < LEAST_SPREAD / 10:
        return "every image gets the same answer"
    if swapped and len(set(nearest.tolist())) == len(reference):
        return f"{swapped} of {len(reference)} images get another image's answer: outputs are permuted"
    return "the logits resemble no image's: other weights, or too short a format"
