"""Ways of doing one thing, in turns: in which order, how often, and what the pairs of a turn say of the difference.

Nothing here reads a clock or knows what the ways are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.measure.percentiles import percentile

WARMUP_TURNS = 20
MOST_TURNS = 200
ENOUGH_MS = 0.3
ADDS, SAVES, CANNOT_TELL = "adds", "saves", "cannot tell"
_TAIL = 0.025  # on each side of a 95% interval


@dataclass(frozen=True)
class Difference:
    """The median of the paired differences of a way and another, in milliseconds, with its 95% interval.

    `verdict` is `adds` or `saves`; it is `cannot tell` where the interval is wider than the difference, or where there
    are too few turns for an interval. Then `low_ms` and `high_ms` are None.
    """

    median_ms: float
    low_ms: float | None
    high_ms: float | None

    @property
    def verdict(self) -> str:
        """What may be said of the difference."""
        if self.low_ms is None or self.high_ms is None or self.high_ms - self.low_ms > abs(self.median_ms):
            return CANNOT_TELL
        return ADDS if self.median_ms > 0 else SAVES

    @property
    def is_settled(self) -> bool:
        """Whether the interval reaches no further than 0.3 ms from the median."""
        if self.low_ms is None or self.high_ms is None:
            return False
        return max(self.high_ms - self.median_ms, self.median_ms - self.low_ms) <= ENOUGH_MS


def balanced_orders(ways: int) -> list[tuple[int, ...]]:
    """Return orders in which each way has each place equally often, and comes right after each other equally often.

    Taken in rotation they make up for what a way leaves behind for the next, such as cold caches. An even number of
    ways needs as many orders, an odd number twice as many.

    Source: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949.
    """
    first = [0]
    for step in range(1, ways):
        first.append((step + 1) // 2 if step % 2 else ways - step // 2)
    square = [tuple((place + shift) % ways for place in first) for shift in range(ways)]
    return square if ways % 2 == 0 else square + [order[::-1] for order in square]


def paired_difference(times_s: Sequence[float], base_s: Sequence[float]) -> Difference:
    """Return how much longer one way took than the base, turn by turn.

    The interval is that of order statistics, which supposes no distribution; it needs six turns.

    Args:
        times_s: the seconds of the way in each turn.
        base_s: the seconds of the base in the same turns.
    """
    found = sorted((one - base) * 1e3 for one, base in zip(times_s, base_s, strict=True))
    median_ms = statistics.median(found)
    rank = _interval_rank(len(found))
    if rank is None:
        return Difference(median_ms, None, None)
    return Difference(median_ms, found[rank], found[-1 - rank])


def _interval_rank(count: int) -> int | None:
    """Return how many values lie outside a 95% interval of the median on each side, None if there are too few."""
    below, rank = 0.0, None
    for outside in range(count // 2):
        below += math.comb(count, outside) / 2**count
        if below > _TAIL:
            break
        rank = outside
    return rank


def wants_another_turn(done: int, orders: int, differences: Sequence[Difference]) -> bool:
    """Return whether one more turn is due, where no time or number was asked for.

    Turns end with a whole rotation of the orders: after 200, or once every difference is settled.
    """
    if done % orders:
        return True
    return done < MOST_TURNS and not all(one.is_settled for one in differences)


def p10_ms(times_s: Sequence[float]) -> float:
    """Return the tenth percentile in milliseconds: what it takes when nothing else is in the way."""
    return percentile(times_s, 10) * 1e3
