"""What the harness asks of a device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch


class Device(Protocol):
    """One device that cases run on. `synchronize` has no default: a device without one cannot be timed."""

    @property
    def kind(self) -> str:
        """The word in the register: `cpu`, `cuda`, `xpu`."""

    @property
    def index(self) -> int:
        """Which one of its kind, from 0."""

    @property
    def name(self) -> str:
        """The name as in a case id: `cpu`, `cuda`, `cuda:1`."""

    @property
    def is_host(self) -> bool:
        """Whether it is the processor that runs this program, so that work is done when a call returns."""

    def available(self) -> str | None:
        """None, or the reason why this device cannot be used here."""

    def supports(self, precision: str) -> str | None:
        """None, or the reason why this device cannot compute in this precision."""

    def settings(self, precision: str) -> AbstractContextManager[None]:
        """The process-wide switches that a precision needs, put back on leaving.

        Raises:
            ValueError: this device cannot compute in the precision.
        """

    def short_formats(self) -> dict[str, bool]:
        """Which switches that let this device compute fp32 in a shorter format there are, and whether each is on."""

    def synchronize(self) -> None:
        """Return when all submitted work is done."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch in the memory of this device."""

    def reset_peak_memory(self) -> None:
        """Start a new watch of the peak."""

    def peak_memory(self) -> int | None:
        """Bytes at the highest since `reset_peak_memory`; None where it cannot be told."""

    def release(self) -> None:
        """Give memory that is cached but unused back."""

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """What the device is: name, driver, memory …, flat and fit for JSON."""


def place_of(device: Device) -> str:
    """One device and no other, as torch spells it and as evidence names it: `cpu`, `cuda:0`, `xpu:1`."""
    return device.kind if device.is_host else f"{device.kind}:{device.index}"
