"""Says of two sides that take turns which of them is faster, again and again while they do, until that is decided.

Two processes of the very same side differ by themselves, for where their memory lies and which core a thread wakes on;
of a small network by more than a practical bound. So both sides are started anew several times, and what the starts
differ by is in the interval: it is Student's, of one logarithm of the time ratio for each start.

Who looks at an interval many times finds a difference sooner or later where there is none. Here the looks are planned,
and all intervals together, not each, hold the true ratio with 95%: each look has its own part of the 5%.

Four blocks of rounds, A B B A or B A A B, give one logarithm of the time ratio. What changes steadily is the same for
both sides of such a four. Which of the two orders a four has is drawn by lot, so that whatever else the machine does
moves the ratio as often one way as the other. A start has the median of its fours, which a jump of the machine's speed
in a few of them does not move.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from harness.report.comparison.ratio import CONFIDENCE, Ratio, missing, verdict_of

# After so many starts the first look is taken, and another one each time when there are half as many again. With fewer
# than four, all of them fall on one side of the truth too often where a process is of one of two kinds.
FIRST_LOOK = 4
GROWTH = 1.5
_ERROR = 1 - CONFIDENCE


def planned_looks() -> Iterator[int]:
    """Yield the numbers of starts after which there is a look: 4, 6, 9, 13 and so on without end."""
    count = float(FIRST_LOOK)
    while True:
        yield int(count)
        count *= GROWTH


def judge_turns(log_ratios: Sequence[Sequence[float]], bound_pct: float, *, is_over: bool) -> Ratio | None:
    """Say what the starts so far decide, if this is a look.

    Look k has the part 1 / (k (k + 1)) of the error, and the last one, which is taken when the time is over, has all
    that is left. The sum is 1 however many looks there are, so that by Bonferroni every interval of a run, and with it
    the one that decides, holds the true ratio with 95%.

    Args:
        log_ratios: for each start, and in it for each four, the logarithm of the time of the second side over that of
            the first. A start without a four does not count.
        bound_pct: by how many percent two times may differ and be called the same.
        is_over: whether there is no more time.

    Returns:
        What the interval says; None if this is no look. With "cannot tell" and more time the turns go on.
    """
    centres = [statistics.median(fours) for fours in log_ratios if fours]
    earlier = 0
    for at in planned_looks():
        if at >= len(centres):
            break
        earlier += 1
    if is_over:
        error = _ERROR / (earlier + 1)
    elif at == len(centres):
        error = _ERROR / ((earlier + 1) * (earlier + 2))
    else:
        return None
    if len(centres) < FIRST_LOOK:
        needed = f"needs {FIRST_LOOK} starts of both sides, has {len(centres)}"
        return Ratio("cannot tell", None, None, None, needed)
    ratio, half = mean_interval(centres, error)
    bound = math.log1p(bound_pct / 100)
    verdict = verdict_of(ratio - half, ratio + half, bound)
    reason = missing(ratio, half, bound, len(centres), "starts") if verdict == "cannot tell" else ""
    return Ratio(verdict, math.exp(ratio), math.exp(ratio - half), math.exp(ratio + half), reason)


def mean_interval(values: Sequence[float], error: float) -> tuple[float, float]:
    """Return the mean of at least two values, and how far the ends of its interval are from it, by Student.

    Args:
        values: the values.
        error: the probability that the interval does not hold the mean, if the values are normally distributed.
    """
    from scipy.stats import t

    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(t.ppf(1 - error / 2, len(values) - 1)) * deviation
