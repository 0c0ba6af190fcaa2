"""The sensor of the processor and the memory of the host, through psutil and the kernel's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from harness.host.telemetry.rapl import FOLDER, PACKAGES, PSYS, Rapl, UnreadableZone
from harness.host.telemetry.sensor import Reading

_CPUS = Path("/sys/devices/system/cpu")
# The kernel counts the time of processors in steps of 10 ms: over less time than this a share of it means nothing.
LEAST_SHARE_S = 0.05


class CpuSensor:
    """The processor and the memory of the host."""

    name = "cpu"

    def __init__(
        self,
        rapl: Path = FOLDER,
        cpus: Path = _CPUS,
        domain: str = PACKAGES,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Find out which values can be read.

        Args:
            rapl: the kernel's power capping folder.
            cpus: the kernel's folder of processors.
            domain: which zones of energy are counted; see `Rapl`.
            clock: the clock in seconds.
        """
        self._missing: dict[str, str] = {}
        self._clock = clock
        self._column = "psys energy" if domain == PSYS else "cpu energy"
        self._rapl: Rapl | None = None
        self._is_counting = False
        try:
            self._rapl = Rapl(rapl, domain)
        except UnreadableZone as error:
            self._missing[self._column] = str(error)
        self._throttles = sorted(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        if not self._throttles:
            self._missing["cpu throttled"] = "the kernel counts no thermal throttling here"
        self.begin()

    def begin(self) -> None:
        """See `Sensor.begin`. The first share of busy time is asked for and dropped: it is of the time before."""
        psutil.cpu_percent()
        self._asked_s = self._clock()
        if self._rapl is not None:
            self._missing.pop(self._column, None)
            self._is_counting = True
            self._count(self._rapl.begin)

    def _count(self, ask: Callable[[], Any]) -> Any:
        """Return the answer of a counter, or None from the moment that one of its zones could not be read."""
        try:
            return ask()
        except UnreadableZone as error:
            self._missing[self._column] = str(error)
            self._is_counting = False
            return None

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        found = dict(self._missing)
        if psutil.cpu_freq() is None:
            found["cpu frequency"] = "the kernel gives no frequency here"
        if not self._temperatures():
            found["cpu temperature"] = "the kernel gives no sensor of the processor here"
        return found

    def devices(self) -> Mapping[str, str]:
        """See `Sensor.devices`."""
        return {"cpu": "" if self._rapl is None else "RAPL " + ", ".join(self._rapl.names)}

    def _temperatures(self) -> list[float]:
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        return [one.current for key in ("coretemp", "k10temp", "zenpower") for one in sensors.get(key, [])]

    def sample(self) -> Reading:
        """See `Sensor.sample`."""
        found = {"memory used (MiB)": psutil.virtual_memory().used / 2**20}
        now = self._clock()
        if now - self._asked_s >= LEAST_SHARE_S:
            self._asked_s = now
            found["cpu utilization (%)"] = psutil.cpu_percent()
        frequency = psutil.cpu_freq()
        if frequency is not None:
            found["cpu frequency (MHz)"] = frequency.current
        if temperatures := self._temperatures():
            found["cpu temperature (C)"] = max(temperatures)
        if self._rapl is not None and self._is_counting:
            joules = self._count(self._rapl.joules)
            if joules is not None:
                found[f"{self._column} (J)"] = joules
        if (throttles := self._throttle_count()) is not None:
            found["cpu throttled (count)"] = throttles
        return found

    def _throttle_count(self) -> float | None:
        """Return how often cores were throttled; None without a counter, or if one went away with its core."""
        if not self._throttles:
            return None
        try:
            return float(sum(int(file.read_text(encoding="utf-8")) for file in self._throttles))
        except OSError as error:
            self._missing["cpu throttled"] = f"{error.filename}: {error.strerror}"
            return None

    def close(self) -> None:
        """See `Sensor.close`."""
