"""How sure an AP is, and whether a candidate's is as good as the reference's on the same images.

Both come from a bootstrap over images: images are drawn again with replacement, and AP is told for each draw. An AP of
drawn images is too high on average, for images that are drawn twice agree with each other, so that only the spread of
the draws is used, around the AP of all images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.data import Objects
from harness.measure.accuracy.thresholds import CONFIDENCE, POWER, Interval, Verdict
from harness.measure.detection.matching import Weights, average_precision, match
from models.tasks.detections import Detections

DRAWS = 400
# The columns of `average_precision` that have intervals of their own, beside their mean.
_AT_50, _AT_75 = 0, 5
# If more images than this are needed, the loss lies so near the margin that no practical number would decide.
_MOST_IMAGES = 10_000_000


@dataclass(frozen=True)
class PairedAp:
    """The comparison of a candidate's AP with the reference's on the same images: is its loss below the margin?

    Attributes:
        verdict: `holds` if the loss is below the margin (one-sided 95%), `fails` if it is above (one-sided 95%), and
            `cannot tell` if neither is shown.
        reference_ap_pct: the AP of the reference on these images.
        loss_points: the AP of the reference less that of the candidate, in points of per cent.
        loss_low_points: the one-sided 95% lower bound of the loss.
        loss_high_points: the one-sided 95% upper bound of the loss.
        margin_points: the largest loss that is accepted.
        images: the number of images that were compared.
        needs_images: about how many images would decide, at 90% power, if the true loss were the observed one; None if
            it is decided, or if the loss lies so near the margin that no practical number would decide.
    """

    verdict: Verdict
    reference_ap_pct: float
    loss_points: float
    loss_low_points: float
    loss_high_points: float
    margin_points: float
    images: int
    needs_images: int | None

    def __str__(self) -> str:
        text = (
            f"{self.loss_points:+.2f} points of AP lost against the fp32 CPU reference's {self.reference_ap_pct:.2f}% "
            f"({self.loss_low_points:+.2f} to {self.loss_high_points:+.2f}), margin {self.margin_points:.2f}: "
            f"{self.verdict}"
        )
        if self.verdict != "cannot tell":
            return text
        if self.needs_images is None:
            return f"{text}: the loss lies at the margin; has {self.images:,} images"
        return f"{text}: needs about {self.needs_images:,} images, has {self.images:,}"


@dataclass(frozen=True)
class DrawnAp:
    """The AP of one model for all images, and for each draw of them.

    Attributes:
        whole: the AP at each overlap, shares from 0 to 1, [10].
        draws: the same for each draw, [draws, 10].
    """

    whole: Weights
    draws: Weights

    def intervals(self) -> tuple[Interval, Interval, Interval]:
        """Return AP, AP50 and AP75, each with its two-sided 95% interval, 1.96 deviations of the draws wide."""
        wholes = (float(self.whole.mean()), float(self.whole[_AT_50]), float(self.whole[_AT_75]))
        drawn = (self.draws.mean(axis=1), self.draws[:, _AT_50], self.draws[:, _AT_75])
        found = []
        for whole, draws in zip(wholes, drawn, strict=True):
            half = _quantile((1 + CONFIDENCE) / 2) * float(np.nanstd(draws, ddof=1))
            found.append(Interval(100 * whole, 100 * max(0.0, whole - half), 100 * min(1.0, whole + half)))
        return found[0], found[1], found[2]


def draw_ap(objects: Objects, found: Mapping[int, Detections], seed: int = 0, draws: int = DRAWS) -> DrawnAp:
    """Return the AP of what was found, for all images and for draws of them.

    The draws depend on the seed and the number of images alone, so that two models get the same ones.
    """
    matched = match(objects, found)
    weights = drawn_weights(len(found), seed, draws)
    return DrawnAp(
        average_precision(matched, np.ones((1, len(found))))[0],
        average_precision(matched, weights),
    )


def drawn_weights(images: int, seed: int, draws: int) -> Weights:
    """Return how often each image is drawn, [draws, images]: as many as there are, with replacement."""
    shares = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, shares, draws).astype(np.float64)


def compare_ap(reference: DrawnAp, candidate: DrawnAp, images: int, margin_pct: float) -> PairedAp:
    """Test the candidate for non-inferiority on the same images, at a margin relative to the reference's AP.

    To the variance of the draws two images are added: one in which the candidate loses everything and one in which it
    wins everything. Without them a hundred images on which two models agree would prove what a hundred images cannot.
    The comparison of classifiers does the same.

    Args:
        reference: the reference's AP and its draws.
        candidate: the candidate's, of the same draws.
        images: the number of images.
        margin_pct: the relative margin in per cent of the reference's AP.
    """
    level = float(reference.whole.mean())
    margin, loss = margin_pct / 100 * level, level - float(candidate.whole.mean())
    spread = float(np.nanstd((reference.draws - candidate.draws).mean(axis=1), ddof=1))
    added = 2 * level**2
    half = _quantile(CONFIDENCE) * math.sqrt(spread**2 + added / images**2)
    low, high = loss - half, loss + half
    verdict: Verdict = "holds" if high < margin else "fails" if low > margin else "cannot tell"
    needs = None
    if verdict == "cannot tell":
        # the n at which the bound reaches the margin: gap n^2 = deviations^2 (variance n + added)
        square = (_quantile(CONFIDENCE) + _quantile(POWER)) ** 2
        gap, variance = max((margin - loss) ** 2, 1e-12), spread**2 * images
        needed = (square * variance + math.sqrt((square * variance) ** 2 + 4 * gap * square * added)) / (2 * gap)
        needs = math.ceil(max(needed, images + 1)) if needed < _MOST_IMAGES else None
    return PairedAp(
        verdict=verdict,
        reference_ap_pct=100 * level,
        loss_points=100 * loss,
        loss_low_points=100 * low,
        loss_high_points=100 * high,
        margin_points=100 * margin,
        images=images,
        needs_images=needs,
    )


def _quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))
