"""The sensors of this machine: those that are available, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable

from harness.host.telemetry.cpu import CpuSensor
from harness.host.telemetry.nvidia import NvidiaSensor
from harness.host.telemetry.rapl import PACKAGES
from harness.host.telemetry.sensor import Sensor, Unavailable
from harness.host.telemetry.xpu import XpuSensor


def open_sensors(domain: str = PACKAGES) -> tuple[list[Sensor], dict[str, str]]:
    """Return every sensor that is available here, and for each of the others the reason why it is not.

    Args:
        domain: which zones of the processor's energy are counted; see `Rapl`.
    """
    kinds: tuple[tuple[str, Callable[[], Sensor]], ...] = (
        ("cpu", lambda: CpuSensor(domain=domain)),
        ("nvidia", NvidiaSensor),
        ("xpu", XpuSensor),
    )
    found: list[Sensor] = []
    absent: dict[str, str] = {}
    for name, open_sensor in kinds:
        try:
            found.append(open_sensor())
        except Unavailable as error:
            absent[name] = str(error)
    return found, absent
