"""Says of two sets of rounds, or of two accuracies, which is better, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Comparative = Literal["faster", "slower", "same", "better", "worse", "cannot tell"]
CONFIDENCE = 0.95
# Into how many consecutive blocks the rounds of one run are cut. Rounds that follow each other are alike; the medians
# of blocks that are a tenth of the run long hardly are.
BLOCKS = 10
# Shorter blocks than of five rounds resemble their neighbours too much.
LEAST_ROUNDS = 5 * BLOCKS
_MOST_ROUNDS = 10_000_000


@dataclass(frozen=True)
class Ratio:
    """What two sides of a comparison say.

    Attributes:
        verdict: the answer in a word.
        value: the time of the second side over that of the first, or the difference of accuracies in points; None where
            there is too little to say it.
        low: the lower end of its 95% interval.
        high: the upper end of its 95% interval.
        reason: what is missing where the verdict is "cannot tell", else empty.
    """

    verdict: Comparative
    value: float | None
    low: float | None
    high: float | None
    reason: str = ""


def compare_rounds(
    first_s: Sequence[Sequence[float]], second_s: Sequence[Sequence[float]], bound_pct: float, *, use_mean: bool
) -> Ratio:
    """Compare the rounds of two sides, each of one run or of several.

    The interval is Welch's, of the logarithms of block medians (or means). With one run a side the blocks are ten
    consecutive parts of the run, because rounds resemble those before them. With several runs a side each run is one
    block: runs differ by more than what happens within one, and only several of them show by how much. Where only one
    side has several, its runs say how much those of the other side would differ, and the interval is Student's.

    A side is called slower or faster if the whole interval of the ratio lies beyond the bound, and the same if the
    whole interval lies within it.

    Args:
        first_s: for each run of the first side its rounds in order, in seconds.
        second_s: the same of the second side.
        bound_pct: by how many percent two times may differ and be called the same.
        use_mean: whether a block is represented by its mean, as for throughput, and not by its median.
    """
    from scipy.stats import t, ttest_ind

    centre: Callable[[Sequence[float]], float] = statistics.fmean if use_mean else statistics.median
    is_of_runs = len(first_s) > 1 or len(second_s) > 1
    first, second = (_blocks(side_s, centre, is_of_runs) for side_s in (first_s, second_s))
    if first is None or second is None:
        least = min((len(run) for run in (*first_s, *second_s)), default=0)
        return undecided(f"needs {LEAST_ROUNDS} rounds a side, or several runs; has {least}")
    ratio = statistics.fmean(second) - statistics.fmean(first)
    if min(len(first), len(second)) == 1:
        several = max(first, second, key=len)
        half = statistics.stdev(several) * math.sqrt(1 + 1 / len(several))
        half *= float(t.ppf((1 + CONFIDENCE) / 2, len(several) - 1))
        low, high = ratio - half, ratio + half
    else:
        ends = ttest_ind(second, first, equal_var=False).confidence_interval(CONFIDENCE)
        low, high = (ratio, ratio) if math.isnan(ends.low) else (float(ends.low), float(ends.high))
    bound = math.log1p(bound_pct / 100)
    verdict = verdict_of(low, high, bound)
    reason = ""
    if verdict == "cannot tell":
        rounds = min(sum(map(len, first_s)), sum(map(len, second_s)))
        reason = _missing(ratio, (high - low) / 2, bound, rounds, is_of_runs)
    return Ratio(verdict, math.exp(ratio), math.exp(low), math.exp(high), reason)


def compare_accuracies(first: tuple[int, int], second: tuple[int, int], bound_points: float) -> Ratio:
    """Compare two accuracies that were measured on the same images, of which only the totals are known.

    The interval is Newcombe's for a difference of proportions. It takes the two sides for independent, which images
    that are the same make too wide: a difference that it shows is there, and one that it does not show may be.

    Args:
        first: of the first side, how many images were right, and of how many.
        second: the same of the second side.
        bound_points: how many percentage points may be lost and called the same.

    Source: R. G. Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10.
    """
    from scipy.stats import binomtest

    sides = []
    for right, images in (first, second):
        if not images:
            return undecided("has no images")
        interval = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
        ends = {"low_pct": 100 * float(interval.low), "high_pct": 100 * float(interval.high)}
        sides.append({"pct": 100 * right / images, **ends})
    return compare_intervals(sides[0], sides[1], bound_points)


def compare_intervals(
    first: Mapping[str, float], second: Mapping[str, float], bound_points: float, *, is_identical: bool = False
) -> Ratio:
    """Compare two scores by their intervals, as if they were independent, which makes the interval too wide.

    Args:
        first: the score of the first side, `pct`, with the ends of its 95% interval, `low_pct` and `high_pct`.
        second: the same of the second side.
        bound_points: how many percentage points may be lost and called the same.
        is_identical: whether all answers of both are the same; then nothing differs, whatever the interval.

    Source: the square-and-add of Newcombe 1998, method 10, for any two intervals; G. Y. Zou and A. Donner,
    "Construction of confidence limits about effect measures: a general approach", 2008.
    """
    difference = second["pct"] - first["pct"]
    low = difference - math.hypot(second["pct"] - second["low_pct"], first["high_pct"] - first["pct"])
    high = difference + math.hypot(second["high_pct"] - second["pct"], first["pct"] - first["low_pct"])
    return _of_points(difference, low, high, bound_points, is_identical)


def compare_images(
    first: bytes, second: bytes, images: int, bound_points: float, *, is_identical: bool = False
) -> Ratio:
    """Compare two accuracies by which of the same images were right.

    The interval is Bonett and Price's adjusted Wald interval for paired proportions: that of a t test on the
    differences after one image of each kind of flip is added.

    Args:
        first: of the first side a bit for each image, 1 where it was right, the first image in the highest bit.
        second: the same of the second side.
        images: how many images there are.
        bound_points: how many percentage points may be lost and called the same.
        is_identical: whether both ranked the classes of every image alike; then nothing differs, whatever the interval.

    Source: Bonett and Price 2012, recommended by Fagerland, Lydersen and Laake 2014, "Recommended tests and
    confidence intervals for paired binomial proportions".
    """
    import numpy as np
    from scipy.stats import ttest_1samp

    if not images:
        return undecided("has no images")
    one, other = (np.unpackbits(np.frombuffer(bits, np.uint8), count=images) for bits in (first, second))
    lost, won = int(((one == 1) & (other == 0)).sum()), int(((one == 0) & (other == 1)).sum())
    differences = np.repeat([-1, 0, 1], [lost + 1, images - lost - won, won + 1])
    ends = ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
    difference = 100 * (won - lost) / images
    return _of_points(difference, 100 * float(ends.low), 100 * float(ends.high), bound_points, is_identical)


def _of_points(difference: float, low: float, high: float, bound: float, is_identical: bool) -> Ratio:
    """Return what a difference of scores and its interval say, all in points."""
    found: Comparative = "cannot tell"
    if is_identical or (low > -bound and high < bound):
        found = "same"
    elif high < -bound:
        found = "worse"
    elif low > bound:
        found = "better"
    return Ratio(found, difference, low, high, "" if found != "cannot tell" else "needs more images")


def undecided(reason: str) -> Ratio:
    """Return that there is nothing to compare, and why."""
    return Ratio("cannot tell", None, None, None, reason)


def _blocks(
    runs_s: Sequence[Sequence[float]], centre: Callable[[Sequence[float]], float], is_of_runs: bool
) -> list[float] | None:
    """Return the logarithms of the times of runs, or of the blocks of the only run; None if rounds are too few."""
    if is_of_runs:
        return [math.log(centre(run)) for run in runs_s] if all(runs_s) else None
    rounds_s = runs_s[0] if runs_s else ()
    if len(rounds_s) < LEAST_ROUNDS:
        return None
    size = len(rounds_s) / BLOCKS
    return [math.log(centre(rounds_s[int(i * size) : int((i + 1) * size)])) for i in range(BLOCKS)]


def verdict_of(low: float, high: float, bound: float) -> Comparative:
    """Return what an interval of the logarithm of a time ratio says, given the logarithm of the practical bound."""
    if low > bound:
        return "slower"
    if high < -bound:
        return "faster"
    return "same" if low > -bound and high < bound else "cannot tell"


def _missing(ratio: float, half: float, bound: float, rounds: int, is_of_runs: bool) -> str:
    """Return what would decide: more runs, or about how many rounds."""
    if is_of_runs:
        return "the runs of a side differ too much; give more runs"
    return missing(ratio, half, bound, rounds, "rounds")


def missing(ratio: float, half: float, bound: float, count: int, what: str) -> str:
    """Return about how many would decide: the interval narrows with the root of their number.

    Args:
        ratio: the logarithm of the time ratio.
        half: half the width of its interval.
        bound: the logarithm of the practical bound.
        count: how many there are, for the interval as it is.
        what: what is counted, such as rounds.
    """
    gap = abs(abs(ratio) - bound)
    needed = count * (half / gap) ** 2 if gap else math.inf
    if needed > _MOST_ROUNDS:
        return f"the ratio lies at the bound; no number of {what} decides it"
    return f"needs about {math.ceil(needed):,} {what}, has {count:,}"
