"""The interface that every device implements."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch


class Device(Protocol):
    """One device on which cases run. `synchronize` has no default, because a device without it cannot be timed."""

    @property
    def kind(self) -> str:
        """The name in the register: `cpu`, `cuda` or `xpu`."""

    @property
    def index(self) -> int:
        """The index among the devices of its kind, from 0."""

    @property
    def name(self) -> str:
        """The name as in a case id, such as `cpu`, `cuda` or `cuda:1`."""

    @property
    def is_host(self) -> bool:
        """Whether the device is the processor that runs this program, so that work is done when a call returns."""

    def available(self) -> str | None:
        """Return None, or the reason why this device cannot be used on this machine."""

    def supports(self, precision: str) -> str | None:
        """Return None, or the reason why this device cannot compute in this precision."""

    def settings(self, precision: str) -> AbstractContextManager[None]:
        """Return a context manager that sets the process-wide switches for a precision and restores them on exit.

        Raises:
            ValueError: this device cannot compute in the precision.
        """

    def short_formats(self) -> dict[str, bool]:
        """Return, by name, whether each switch is on that lets this device compute fp32 in a shorter format."""

    def conditions(self) -> dict[str, str | int | float | bool | None]:
        """Return what can make two rows of one label differ on this device now: switches, limits and clocks, flat."""

    def synchronize(self) -> None:
        """Wait until all submitted work is done."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the batch in the memory of this device, in the same layout.

        The call may return before a copy is done, and what is submitted afterwards waits for it. The batch may be
        changed or freed at once, unless the device is the host, which returns the batch itself.
        """

    def reset_peak_memory(self) -> None:
        """Reset the record of peak memory."""

    def peak_memory(self) -> int | None:
        """Return the peak memory in bytes since `reset_peak_memory`, or None where it is unknown."""

    def release(self) -> None:
        """Return memory that is cached but unused to the system."""

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return the device's properties, such as name, driver and memory, as a flat, JSON-serialisable dict."""


def place_of(device: Device) -> str:
    """Return the device's name with its index, as torch and the evidence write it: `cpu`, `cuda:0`, `xpu:1`."""
    return device.kind if device.is_host else f"{device.kind}:{device.index}"


def forked_generators(device: Device) -> AbstractContextManager[None]:
    """Return a context manager that puts torch's generators of the host and of this device back on leaving."""
    if device.is_host:
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index], device_type=device.kind)


def generator_state(device: Device) -> torch.Tensor | None:
    """Return the state of the generator of an accelerator, or None for the host, whose generator is torch's own."""
    if device.is_host:
        return None
    found: torch.Tensor = getattr(torch, device.kind).get_rng_state(device.index)
    return found


def set_generator_state(device: Device, state: torch.Tensor | None) -> None:
    """Put the generator of an accelerator into a state of `generator_state`; None leaves it as it is."""
    if state is not None and not device.is_host:
        getattr(torch, device.kind).set_rng_state(state, device.index)
