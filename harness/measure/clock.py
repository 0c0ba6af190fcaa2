"""The clock of a measurement, which is handed in so that pytest-benchmark can be it, and the record that comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

NextArguments = Callable[[float], tuple[Any, ...] | None]


class TimedRounds(Protocol):
    """A clock that runs a target again and again."""

    def __call__(self, kind: str, target: Callable[..., None], next_arguments: NextArguments) -> list[float]:
        """Seconds of each round of `target`.

        Args:
            kind: what is measured, for tables and progress.
            target: what is timed.
            next_arguments: given the seconds since the first round began, the arguments of one more round, made
                outside the timed region, or None to end.

        Returns:
            The rounds, in their order; none where timing is switched off.
        """


class Measurement(Protocol):
    """A frozen dataclass with units in its fields' names, which says itself what kind of number it holds."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def record_of(measurement: Measurement) -> dict[str, Any]:
    """The measurement as it goes into the JSON: its kind, and its fields."""
    return {"measurement": measurement.kind, **asdict(measurement)}
