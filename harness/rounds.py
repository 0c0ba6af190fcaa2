"""How long to measure. Pure functions of what has been done so far; they hold no clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Duration:
    """How long one measurement lasts.

    Attributes:
        min_s: go on until this much time has passed.
        max_s: start nothing more once this much has passed, whatever else is wanted; None for no limit.
        min_rounds: rounds to reach, unless `max_s` comes first.
        batches: batches to run, in place of a time, or None.
    """

    min_s: float
    max_s: float | None
    min_rounds: int
    batches: int | None = None


def wants_more(duration: Duration, rounds: int, elapsed_s: float) -> bool:
    """Whether one more round is due after so many and so long. The first always is."""
    if rounds == 0:
        return True
    if duration.max_s is not None and elapsed_s >= duration.max_s:
        return False
    return elapsed_s < duration.min_s or rounds < duration.min_rounds


# A window long enough that its one synchronisation does not matter, and enough windows to see a drift.
WINDOWS = 5
LEAST_BATCHES = 2


def window_batches(duration: Duration, done: int, elapsed_s: float, batch_s: float) -> int:
    """Batches of the next throughput window, 0 when enough is done.

    Args:
        duration: how long the measurement lasts.
        done: batches done so far.
        elapsed_s: since its start.
        batch_s: what one batch takes, as warm-up showed.
    """
    batches_left = (duration.batches or 0) - done
    is_over = duration.max_s is not None and elapsed_s >= duration.max_s
    is_due = elapsed_s < duration.min_s or batches_left > 0
    if done and (is_over or not is_due):
        return 0
    size = max(
        LEAST_BATCHES,
        round(duration.min_s / WINDOWS / batch_s),
        math.ceil((duration.batches or 0) / WINDOWS),
    )
    if elapsed_s >= duration.min_s and batches_left > 0:
        size = min(size, batches_left)
    if duration.max_s is not None:
        size = min(size, int((duration.max_s - elapsed_s) / batch_s))
    return max(1, size)


# Warm-up
STEADY_PCT = 5.0
SPAN = 3


def is_steady(rounds_s: Sequence[float]) -> bool:
    """Whether the last rounds are no longer getting faster: their median is within 5% of that of those before."""
    if len(rounds_s) < 2 * SPAN:
        return False
    before = statistics.median(rounds_s[-2 * SPAN : -SPAN])
    latest = statistics.median(rounds_s[-SPAN:])
    return latest >= before * (1 - STEADY_PCT / 100)
