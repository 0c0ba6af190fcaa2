"""How long to measure: pure functions of what has been done so far. The clock is the caller's."""

from __future__ import annotations

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
    """Whether one more round is due, after `rounds` rounds in `elapsed_s` seconds. The first always is."""
    if rounds == 0:
        return True
    if duration.max_s is not None and elapsed_s >= duration.max_s:
        return False
    return elapsed_s < duration.min_s or rounds < duration.min_rounds
