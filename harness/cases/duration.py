"""How long to measure, decided by a pure function of the rounds and time so far. The caller holds the clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Duration:
    """How long one measurement lasts.

    Attributes:
        min_s: the time in seconds for which the measurement continues at least.
        max_s: the time in seconds after which no round is started, whatever else is asked; None for no limit.
        min_rounds: the least number of rounds, unless `max_s` is reached first.
        batches: the number of batches to run instead of a time, or None.
    """

    min_s: float
    max_s: float | None
    min_rounds: int
    batches: int | None = None


def wants_more(duration: Duration, rounds: int, elapsed_s: float) -> bool:
    """Return whether one more round is due after `rounds` rounds in `elapsed_s` seconds. The first round always is."""
    if rounds == 0:
        return True
    if duration.max_s is not None and elapsed_s >= duration.max_s:
        return False
    return elapsed_s < duration.min_s or rounds < duration.min_rounds
