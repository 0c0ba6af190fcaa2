"""Owns the devices, a file each: switches, memory, synchronisation. Must not know any engine or its library's terms."""

from __future__ import annotations

from collections.abc import Callable

from harness.devices.cpu import Cpu
from harness.devices.cuda import Cuda
from harness.devices.ipu import Ipu
from harness.devices.protocol import Device, forked_generators, generator_state, place_of, set_generator_state
from harness.devices.xpu import Xpu

__all__ = [
    "Device",
    "device_names",
    "forked_generators",
    "generator_state",
    "open_device",
    "place_of",
    "set_generator_state",
]

# The register of devices: a new device needs a file in this folder and a line in this table.
_DEVICES: dict[str, Callable[[int | None], Device]] = {
    "cpu": Cpu,
    "cuda": Cuda,
    "xpu": Xpu,
    "ipu": Ipu,
}


def device_names() -> tuple[str, ...]:
    """Return the kinds of devices in the register."""
    return tuple(_DEVICES)


def open_device(name: str) -> Device:
    """Return the device of this name, such as `cuda` or `cuda:1`, whether or not it is present.

    Raises:
        ValueError: no device has that name.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not index.isdecimal()) or name.endswith(":"):
        raise ValueError(
            f"no device {name!r}; there are {', '.join(_DEVICES)}, and cuda:1, xpu:1 or ipu:1 for one of several"
        )
    return _DEVICES[kind](int(index) if index else None)
