"""Owns the devices, a file each: switches, memory, synchronisation. Must not know any engine or its library's words."""

from __future__ import annotations

from collections.abc import Callable

from harness.devices.cpu import Cpu
from harness.devices.cuda import Cuda
from harness.devices.protocol import Device, place_of
from harness.devices.xpu import Xpu

__all__ = ["Device", "device_names", "open_device", "place_of"]

# The register: a new device is a file here and a line in this table.
_DEVICES: dict[str, Callable[[int | None], Device]] = {
    "cpu": Cpu,
    "cuda": Cuda,
    "xpu": Xpu,
}


def device_names() -> tuple[str, ...]:
    """The kinds of devices in the register."""
    return tuple(_DEVICES)


def open_device(name: str) -> Device:
    """The device of that name (`cuda`, `cuda:1`), whether or not it is present.

    Raises:
        ValueError: no device has that name.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not index.isdecimal()) or name.endswith(":"):
        raise ValueError(f"no device {name!r}; there are {', '.join(_DEVICES)}, and cuda:1 or xpu:1 for one of several")
    return _DEVICES[kind](int(index) if index else None)
