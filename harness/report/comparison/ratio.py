"""Says of two sets of rounds, or of two accuracies, which is better, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
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
    block: runs differ by more than what happens within one, and only several of them show by how much.

    A side is called slower or faster if the whole interval of the ratio lies beyond the bound, and the same if the
    whole interval lies within it.

    Args:
        first_s: for each run of the first side its rounds in order, in seconds.
        second_s: the same of the second side.
        bound_pct: by how many percent two times may differ and be called the same.
        use_mean: whether a block is represented by its mean, as for throughput, and not by its median.
    """
    from scipy.stats import ttest_ind

    centre: Callable[[Sequence[float]], float] = statistics.fmean if use_mean else statistics.median
    first, second = _blocks(first_s, centre), _blocks(second_s, centre)
    if first is None or second is None:
        least = min((len(run) for run in (*first_s, *second_s)), default=0)
        return Ratio("cannot tell", None, None, None, f"needs {LEAST_ROUNDS} rounds a side, has {least}")
    test = ttest_ind(second, first, equal_var=False)
    ends = test.confidence_interval(CONFIDENCE)
    ratio = statistics.fmean(second) - statistics.fmean(first)
    low, high = (ratio, ratio) if math.isnan(ends.low) else (float(ends.low), float(ends.high))
    bound = math.log1p(bound_pct / 100)
    verdict = verdict_of(low, high, bound)
    reason = ""
    if verdict == "cannot tell":
        rounds = min(sum(map(len, first_s)), sum(map(len, second_s)))
        reason = _missing(ratio, (high - low) / 2, bound, rounds, len(first_s) > 1)
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

    shares, ends = [], []
    for right, images in (first, second):
        if not images:
            return Ratio("cannot tell", None, None, None, "has no images")
        interval = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
        shares.append(right / images)
        ends.append((interval.low, interval.high))
    difference = shares[1] - shares[0]
    low = difference - math.hypot(shares[1] - ends[1][0], ends[0][1] - shares[0])
    high = difference + math.hypot(ends[1][1] - shares[1], shares[0] - ends[0][0])
    bound = bound_points / 100
    found: Comparative = "cannot tell"
    if first == second or (low > -bound and high < bound):
        found = "same"
    elif high < -bound:
        found = "worse"
    elif low > bound:
        found = "better"
    reason = "" if found != "cannot tell" else "needs more images, or predictions image by image (test_imagenet's pair)"
    return Ratio(found, 100 * difference, 100 * low, 100 * high, reason)


def _blocks(runs_s: Sequence[Sequence[float]], centre: Callable[[Sequence[float]], float]) -> list[float] | None:
    """Return the logarithms of the blocks' times, or None if there are too few rounds to tell anything."""
    if len(runs_s) > 1:
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
