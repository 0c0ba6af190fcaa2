"""Are the answers right? Logits against a reference, as signal to quantisation noise.

Owns the definition and the comparison; whoever calls says what the reference is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from harness.devices.cpu import Cpu

Logits = npt.NDArray[np.float32]

# Identical logits have no noise; the record holds a number all the same.
EXACT_DB = 200.0
# The reference's own images must differ by this, or swapped answers could not be told from right ones.
LEAST_SPREAD = 0.02


class WrongAnswers(AssertionError):
    """The runner's logits are not those of the model that the case names."""


def reference_logits(module: torch.nn.Module, images: torch.Tensor) -> Logits:
    """Logits [n, classes] of the module in fp32 on the CPU, operator by operator.

    Args:
        module: fp32, on the host, in evaluation mode.
        images: fp32 [n, 3, h, w] on the host.
    """
    with Cpu().settings(tf32=False), torch.inference_mode():
        logits: Logits = torch.cat([module(image[None]) for image in images]).float().numpy()
    return logits


def spread(reference: Logits) -> float:
    """How much the answers differ between images: their deviation from the mean answer, over their norm; 0 to 1."""
    centred = reference - reference.mean(axis=0)
    return float(np.linalg.norm(centred) / max(float(np.linalg.norm(reference)), 1e-30))


def sqnr_db(reference: Logits, logits: Logits) -> float:
    """Signal to quantisation noise in dB, 20 log10(|signal| / |noise|), over all images together.

    Noise is the difference from the reference. Signal is what tells the images apart: the reference less its mean
    over the images, so that another image's answer is about -3 dB however alike the answers are.

    Args:
        reference: [n, classes], n of at least 2.
        logits: likewise.

    Raises:
        WrongAnswers: logits that are not finite, of another shape, or a reference that cannot tell images apart.
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
    """Share of images with the same first class, in percent."""
    return float(100 * np.mean(reference.argmax(axis=1) == logits.argmax(axis=1)))


def describe_wrong(reference: Logits, logits: Logits) -> str:
    """What kind of wrong it is, where that can be told: answers of other images, one answer for all."""
    nearest = np.linalg.norm(logits[:, None] - reference[None], axis=2).argmin(axis=1)
    swapped = int((nearest != np.arange(len(reference))).sum())
    if spread(logits) < LEAST_SPREAD / 10:
        return "every image gets the same answer"
    if swapped and len(set(nearest.tolist())) == len(reference):
        return f"{swapped} of {len(reference)} images get another image's answer: outputs are permuted"
    return "the logits resemble no image's: other weights, or too short a format"
