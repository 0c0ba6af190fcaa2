"""Deciding whether an accuracy is good enough: intervals, floors and the paired comparison with the reference.

The statistical tests and distributions come from scipy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["holds", "fails", "cannot tell", "not gated"]
Right = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
POWER = 0.9
# If more images than this are needed, the loss lies so near the margin that no practical number would decide.
_MOST_IMAGES = 10_000_000


@dataclass(frozen=True)
class Interval:
    """A share in percent with its two-sided 95% interval."""

    pct: float
    low_pct: float
    high_pct: float

    def __str__(self) -> str:
        return f"{self.pct:.2f}% ({self.low_pct:.2f} to {self.high_pct:.2f})"


def wilson(right: int, images: int) -> Interval:
    """Return the share of images that are right, with Wilson's 95% interval.

    For a stratified sample the interval is a little wider than necessary.
    """
    from scipy.stats import binomtest

    interval = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(100 * right / images, 100 * float(interval.low), 100 * float(interval.high))


@dataclass(frozen=True)
class Floor:
    """The least accuracy in percent, and a description of how it was derived."""

    pct: float
    terms: str


def published_floor(published_pct: float, margin_pct: float, images: int, of_images: int) -> Floor:
    """Return the published accuracy less the margin, and less what a sample may lack by chance (one-sided 95%).

    Args:
        published_pct: the published accuracy on the full validation set, in percent.
        margin_pct: the relative margin in percent: 1 means at least 99% of the published value.
        images: the number of images that were measured.
        of_images: the number of images in the full set.
    """
    from scipy.stats import norm

    share = 1 - margin_pct / 100
    target = published_pct / 100 * share
    terms = f"{published_pct:.3f}% published x {share:g}"
    if images >= of_images:
        return Floor(100 * target, terms)
    # standard error of a sample without replacement from a finite set
    variance = target * (1 - target) / images * (of_images - images) / (of_images - 1)
    slack_pct = 100 * float(norm.ppf(CONFIDENCE)) * math.sqrt(variance)
    return Floor(
        100 * target - slack_pct,
        f"{terms} - {slack_pct:.2f} points that {images:,} images of {of_images:,} may lack by chance",
    )


@dataclass(frozen=True)
class Paired:
    """The comparison of a candidate with the reference on the same images: is its loss smaller than the margin?

    Attributes:
        verdict: `holds` if the loss is below the margin (one-sided 95%) or all answers are the same, `fails` if it is
            above the margin (one-sided 95%), and `cannot tell` if neither is shown.
        reference_top1_pct: the top-1 accuracy of the reference on these images, in percent.
        loss_points: the accuracy of the reference less that of the candidate, in percentage points.
        loss_low_points: the one-sided 95% lower bound of the loss, in percentage points.
        loss_high_points: the one-sided 95% upper bound of the loss, in percentage points.
        margin_points: the largest loss that is accepted, in percentage points.
        right_to_wrong: the number of images that the reference has right and the candidate wrong.
        wrong_to_right: the number of images that the reference has wrong and the candidate right.
        images: the number of images that were compared.
        needs_images: about how many images would decide, at 90% power, if the true loss were the observed one; None if
            it is decided, or if the loss lies so near the margin that no practical number would decide.
        is_identical: whether both gave the same ranked classes for every image.
    """

    verdict: Verdict
    reference_top1_pct: float
    loss_points: float
    loss_low_points: float
    loss_high_points: float
    margin_points: float
    right_to_wrong: int
    wrong_to_right: int
    images: int
    needs_images: int | None
    is_identical: bool = False

    def __str__(self) -> str:
        flips = f"{self.right_to_wrong} right to wrong, {self.wrong_to_right} wrong to right"
        text = (
            f"{self.loss_points:+.2f} points lost against the fp32 CPU reference's {self.reference_top1_pct:.2f}% "
            f"({flips}; {self.loss_low_points:+.2f} to {self.loss_high_points:+.2f}), margin {self.margin_points:.2f}: "
            f"{self.verdict}"
        )
        if self.is_identical:
            return f"{text}, for the answers to all {self.images:,} images are the same"
        if self.verdict != "cannot tell":
            return text
        if self.needs_images is None:
            return f"{text}: the loss lies at the margin; has {self.images:,} images"
        return f"{text}: needs about {self.needs_images:,} images, has {self.images:,}"


def compare(reference: Right, candidate: Right, margin_pct: float, *, is_identical: bool = False) -> Paired:
    """Test the candidate for non-inferiority on the same images, at a margin relative to the reference's accuracy.

    The bounds are those of a t test on the differences after one image of each kind of flip is added. This is Bonett
    and Price's adjusted Wald interval, which keeps its level where flips are few or none.

    Args:
        reference: whether the reference has each image right, as a boolean array [n].
        candidate: whether the candidate has each image right, as a boolean array [n] for the same images.
        margin_pct: the relative margin in percent of the reference's accuracy.
        is_identical: whether both gave the same ranked classes for every image, which leaves nothing to lose: the
            verdict is `holds`, however few the images are.

    Source: Bonett and Price 2012, recommended by Fagerland, Lydersen and Laake 2014, "Recommended tests and
    confidence intervals for paired binomial proportions".
    """
    from scipy.stats import norm, ttest_1samp

    images = len(reference)
    lost = int((reference & ~candidate).sum())
    won = int((candidate & ~reference).sum())
    margin = margin_pct / 100 * float(reference.mean())
    differences = np.repeat([1, 0, -1], [lost + 1, images - lost - won, won + 1])
    high = float(ttest_1samp(differences, margin, alternative="less").confidence_interval(CONFIDENCE).high)
    low = float(ttest_1samp(differences, margin, alternative="greater").confidence_interval(CONFIDENCE).low)
    verdict: Verdict = "holds" if is_identical or high < margin else "fails" if low > margin else "cannot tell"
    loss = (lost - won) / images
    needs = None
    if verdict == "cannot tell":
        # the n at which the bound reaches the margin: (margin - loss)^2 n^2 = deviations^2 (variance n + 2), where the
        # 2 stands for the flips that are added
        square = float(norm.ppf(CONFIDENCE) + norm.ppf(POWER)) ** 2
        gap, variance = max((margin - loss) ** 2, 1e-12), (lost + won) / images - loss**2
        needed = (square * variance + math.sqrt((square * variance) ** 2 + 8 * gap * square)) / (2 * gap)
        needs = math.ceil(max(needed, images + 1)) if needed < _MOST_IMAGES else None
    return Paired(
        verdict=verdict,
        reference_top1_pct=100 * float(reference.mean()),
        loss_points=100 * loss,
        loss_low_points=100 * low,
        loss_high_points=100 * high,
        margin_points=100 * margin,
        right_to_wrong=lost,
        wrong_to_right=won,
        images=images,
        needs_images=needs,
        is_identical=is_identical,
    )
