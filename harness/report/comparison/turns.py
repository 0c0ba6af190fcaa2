"""Says of two sides that take turns which of them is faster, again and again while they do, until that is decided.

Who looks at an interval many times finds a difference sooner or later where there is none. Here the looks are planned,
and all intervals together, not each, hold the true ratio with 95%: each look has its own part of the 5%.

Four blocks of rounds, A B B A or B A A B, give one logarithm of the time ratio. What changes steadily is the same for
both sides of such a four. Which of the two orders a four has is drawn by lot, so that whatever else the machine does
moves the ratio as often one way as the other. That is all that the signed-rank test asks for: no normal distribution,
no speed that stays the same, no blocks that are independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from harness.report.comparison.ratio import CONFIDENCE, Ratio, missing, verdict_of

# After so many fours the first look is taken, and another one each time when there are half as many again.
FIRST_LOOK = 8
GROWTH = 1.5
# The fewest fours of which the signed ranks give a 95% interval.
LEAST_FOURS = 6
BLOCKS_OF_FOUR = 4
_ERROR = 1 - CONFIDENCE
# Up to so many fours the distribution of the signed ranks is computed, and beyond it is normal to four digits.
_MOST_EXACT = 150


def planned_looks() -> Iterator[int]:
    """Yield the numbers of fours after which there is a look: 8, 12, 18, 27 and so on without end."""
    count = float(FIRST_LOOK)
    while True:
        yield int(count)
        count *= GROWTH


def judge_turns(log_ratios: Sequence[float], bound_pct: float, *, is_over: bool) -> Ratio | None:
    """Say what the fours so far decide, if this is a look.

    Look k has the part 1 / (k (k + 1)) of the error, and the last one, which is taken when the time is over, has all
    that is left. The sum is 1 however many looks there are, so that by Bonferroni every interval of a run, and with it
    the one that decides, holds the true ratio with 95%.

    Args:
        log_ratios: for each four the logarithm of the time of the second side over that of the first.
        bound_pct: by how many percent two times may differ and be called the same.
        is_over: whether there is no more time.

    Returns:
        What the interval says; None if this is no look. With "cannot tell" and more time the turns go on.
    """
    count = len(log_ratios)
    looks = 0
    for at in planned_looks():
        if at > count:
            break
        looks, last = looks + 1, at
    if is_over:
        error = _ERROR / (looks + 1)
    elif looks and last == count:
        error = _ERROR / (looks * (looks + 1))
    else:
        return None
    found = signed_rank_interval(log_ratios, error)
    if found is None:
        least = BLOCKS_OF_FOUR * LEAST_FOURS
        return Ratio("cannot tell", None, None, None, f"needs about {least} blocks, has {BLOCKS_OF_FOUR * count}")
    ratio, low, high = found
    bound = math.log1p(bound_pct / 100)
    verdict = verdict_of(low, high, bound)
    reason = ""
    if verdict == "cannot tell":
        reason = missing(ratio, (high - low) / 2, bound, BLOCKS_OF_FOUR * count, "blocks")
    return Ratio(verdict, math.exp(ratio), math.exp(low), math.exp(high), reason)


def signed_rank_interval(values: Sequence[float], error: float) -> tuple[float, float, float] | None:
    """Return the centre of values that lie evenly around it, and the ends of its interval, or None if they are too few.

    The centre is that of Hodges and Lehmann, the median of the means of all pairs. The interval holds each centre that
    Wilcoxon's signed-rank test would not reject.

    Args:
        values: the values.
        error: the greatest probability that the interval does not hold the centre.

    Source: Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, sections 3.2 and 3.3.
    """
    import numpy

    count = len(values)
    left_out = _left_out(count, error)
    if left_out is None:
        return None
    array = numpy.asarray(values)
    rows, columns = numpy.triu_indices(count)
    means = numpy.sort((array[rows] + array[columns]) / 2)
    return float(numpy.median(means)), float(means[left_out]), float(means[-1 - left_out])


@lru_cache(maxsize=256)
def _left_out(count: int, error: float) -> int | None:
    """Return how many of the means of pairs lie beyond each end of the interval, or None if there are too few."""
    if count > _MOST_EXACT:
        from scipy.stats import norm

        pairs = count * (count + 1) / 2
        deviation = math.sqrt(pairs * (2 * count + 1) / 12)
        return int(pairs / 2 + float(norm.ppf(error / 2)) * deviation - 0.5)
    below = _distribution(count)
    left_out = int((below <= error / 2).sum()) - 1
    return left_out if left_out >= 0 else None


@lru_cache(maxsize=_MOST_EXACT)
def _distribution(count: int) -> Any:
    """Return the probabilities that the sum of the positive ranks of so many values is at most 0, 1, 2 and so on."""
    import numpy

    shares = numpy.ones(1)
    for rank in range(1, count + 1):
        longer = numpy.zeros(len(shares) + rank)
        longer[: len(shares)] += shares / 2
        longer[rank:] += shares / 2
        shares = longer
    return shares.cumsum()
