"""The interface of a measurement's clock, which pytest-benchmark can implement, and of the measurement's record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

NextArguments = Callable[[float], tuple[Any, ...] | None]
# Returns how many batches each round so far has run, in order; the last of a round of files may be a part of one.
BatchesOfRounds = Callable[[], Sequence[float]]


class TimedRounds(Protocol):
    """A clock that runs a function repeatedly and times each run."""

    def __call__(
        self,
        kind: str,
        target: Callable[..., None],
        next_arguments: NextArguments,
        batches: BatchesOfRounds | None = None,
    ) -> list[float]:
        """Run and time rounds of `target`.

        Args:
            kind: what is measured, for tables and progress lines.
            target: the function that is timed.
            next_arguments: called before each round, outside the timed region, with the seconds since the first round
                began; returns the arguments of the next round, or None to end.
            batches: for rounds of several batches, how many each had. What the clock keeps for a later comparison of
                runs is then the seconds of a batch, because the length of such a round depends on the duration.

        Returns:
            The time of each round in seconds, in order; empty if timing is switched off.
        """


class Measurement(Protocol):
    """A record of measured numbers: a frozen dataclass with units in the names of its fields.

    `kind` says what was measured.
    """

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def record_of(measurement: Measurement) -> dict[str, Any]:
    """Return the measurement as the JSON holds it: its kind and its fields."""
    return {"measurement": measurement.kind, **asdict(measurement)}
