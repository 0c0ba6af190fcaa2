"""What a source of samples has to be.

A column is named `DEVICE VALUE (unit)`. A column whose unit is J is a counter of energy; a column named `throttled`
counts or flags throttling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Reading = dict[str, float]


class Unavailable(RuntimeError):
    """A sensor is not available here; the message says why."""


class Sensor(Protocol):
    """A source of samples that can be asked again and again."""

    @property
    def name(self) -> str:
        """The sensor's name in the record."""

    def begin(self) -> None:
        """Begin a window: forget all that was before, so that no sample is of the time before this call."""

    def sample(self) -> Reading:
        """Return the present values, by column, without those that would be of the time before the window."""

    def missing(self) -> dict[str, str]:
        """Return what cannot be measured, with the reason for each."""

    def devices(self) -> Mapping[str, str]:
        """Return the devices of the columns, each with what it is known by elsewhere, such as the UUID of a GPU."""

    def close(self) -> None:
        """Release what the sensor holds."""
