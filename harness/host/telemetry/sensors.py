"""The sources of samples: one class each for the processor, NVIDIA's library and Intel's command.

A column is named `name (unit)`. A column whose unit is J is a counter of energy; a column named `throttled` counts or
flags throttling.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psutil

Reading = dict[str, float]

_RAPL = Path("/sys/class/powercap")
_CPUS = Path("/sys/devices/system/cpu")


class Sensor(Protocol):
    """A source of samples that can be asked again and again."""

    @property
    def name(self) -> str:
        """The sensor's name in the record."""

    def missing(self) -> dict[str, str]:
        """Return what cannot be measured, with the reason for each."""

    def sample(self) -> Reading:
        """Return the present values, by column."""

    def close(self) -> None:
        """Release what the sensor holds."""


class CpuSensor:
    """The processor and the memory of the host, through psutil and the kernel's files."""

    name = "cpu"

    def __init__(self, rapl: Path = _RAPL, cpus: Path = _CPUS) -> None:
        """Find out which values can be read.

        Args:
            rapl: the kernel's power capping folder.
            cpus: the kernel's folder of processors.
        """
        self._missing: dict[str, str] = {}
        self._zones = self._energy_zones(rapl)
        self._throttles = sorted(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
        if not self._throttles:
            self._missing["cpu throttled"] = "the kernel counts no thermal throttling here"
        psutil.cpu_percent()  # the first call has no interval to average over

    def _energy_zones(self, rapl: Path) -> list[tuple[Path, int]]:
        """Return each package's energy counter and the value at which it wraps round, in microjoules."""
        zones = []
        for zone in sorted(rapl.glob("intel-rapl:[0-9]*")):
            if zone.name.count(":") > 1:  # a part of a package, which is counted with it
                continue
            try:
                int((zone / "energy_uj").read_text(encoding="utf-8"))
                zones.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text(encoding="utf-8"))))
            except OSError as error:
                self._missing["cpu energy"] = f"{zone / 'energy_uj'}: {error.strerror}"
        if not zones:
            self._missing.setdefault("cpu energy", f"no RAPL counter under {rapl}")
        self._before: dict[Path, int] = {}
        self._joules = 0.0
        return zones

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        found = dict(self._missing)
        if psutil.cpu_freq() is None:
            found["cpu frequency"] = "the kernel gives no frequency here"
        if not self._temperatures():
            found["cpu temperature"] = "the kernel gives no sensor of the processor here"
        return found

    def _temperatures(self) -> list[float]:
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        return [one.current for key in ("coretemp", "k10temp", "zenpower") for one in sensors.get(key, [])]

    def sample(self) -> Reading:
        """See `Sensor.sample`."""
        found = {
            "cpu utilization (%)": psutil.cpu_percent(),
            "memory used (MiB)": psutil.virtual_memory().used / 2**20,
        }
        frequency = psutil.cpu_freq()
        if frequency is not None:
            found["cpu frequency (MHz)"] = frequency.current
        if temperatures := self._temperatures():
            found["cpu temperature (C)"] = max(temperatures)
        if self._zones:
            found["cpu energy (J)"] = self._energy()
        if self._throttles:
            found["cpu throttled (count)"] = float(
                sum(int(file.read_text(encoding="utf-8")) for file in self._throttles)
            )
        return found

    def _energy(self) -> float:
        """Return the joules of all packages since the first sample, allowing for counters that wrapped round."""
        for file, wraps_at in self._zones:
            now = int(file.read_text(encoding="utf-8"))
            self._joules += ((now - self._before.get(file, now)) % (wraps_at + 1)) / 1e6
            self._before[file] = now
        return self._joules

    def close(self) -> None:
        """See `Sensor.close`."""


# NVML's reasons for lower clocks, other than idleness and what a user set.
# Source: NVML API reference, "NvmlClocksEventReasons".
_THROTTLE = {"SwPowerCap": 0x4, "HwSlowdown": 0x8, "SwThermalSlowdown": 0x20, "HwThermalSlowdown": 0x40}
_THROTTLE |= {"HwPowerBrakeSlowdown": 0x80}


class NvidiaSensor:
    """NVIDIA GPUs, read through nvidia-ml-py."""

    name = "nvidia"

    def __init__(self, library: Any = None) -> None:
        """Open the driver's library.

        Args:
            library: the module `pynvml` or one with the same functions, None to import it.

        Raises:
            Unavailable: if it is not installed or cannot be used; the message has the driver's own reason.
        """
        if library is None:
            if find_spec("pynvml") is None:
                raise Unavailable("nvidia-ml-py is not installed: pip install -r requirements.txt")
            library = import_module("pynvml")
        self._nvml = library
        try:
            library.nvmlInit()
            self._handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
        except library.NVMLError as error:
            raise Unavailable(str(error)) from None
        self._missing: dict[str, str] = {}

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        return dict(self._missing)

    def sample(self) -> Reading:
        """See `Sensor.sample`."""
        found: Reading = {}
        for index, handle in enumerate(self._handles):
            for column, ask in self._questions(handle).items():
                name = f"gpu{index} {column}"
                try:
                    found[name] = ask()
                except self._nvml.NVMLError as error:  # a card that lacks one sensor still has the others
                    self._missing[name.partition(" (")[0]] = str(error)
        return found

    def _questions(self, handle: Any) -> dict[str, Callable[[], float]]:
        nvml = self._nvml

        def throttled() -> float:
            reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
            return float(any(reasons & bit for bit in _THROTTLE.values()))

        return {
            "utilization (%)": lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "memory used (MiB)": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20,
            "sm clock (MHz)": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory clock (MHz)": lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "temperature (C)": lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "power (W)": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "energy (J)": lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
            "throttled (flag)": throttled,
        }

    def close(self) -> None:
        """See `Sensor.close`."""
        self._nvml.nvmlShutdown()


# The metrics that xpu-smi is asked for: utilisation, power, frequency, temperature, memory, energy, throttle reason.
# Source: Intel XPU Manager and XPU System Management Interface user guide, "dump".
_XPU_METRICS = "0,1,2,3,8,18,35"


class XpuSensor:
    """Intel GPUs, through `xpu-smi dump`, whose lines are read while it runs."""

    name = "xpu"

    def __init__(self, command: str = "xpu-smi") -> None:
        """Start the command.

        Raises:
            Unavailable: if the command is not installed or ends at once.
        """
        path = shutil.which(command)
        if path is None:
            raise Unavailable(f"{command} is not installed: it comes with Intel XPU Manager")
        self._process = subprocess.Popen(
            [path, "dump", "-d", "0", "-m", _XPU_METRICS, "-i", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        heading = self._process.stdout.readline()
        if "Timestamp" not in heading:
            self._process.kill()
            raise Unavailable(f"{command} dump: {heading.strip() or 'no output'}")
        os.set_blocking(self._process.stdout.fileno(), False)
        self._columns = [name.strip() for name in heading.split(",")]
        self._latest: Reading = {}

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        ended = self._process.poll()
        return {} if ended is None else {"xpu": f"xpu-smi ended with {ended}"}

    def sample(self) -> Reading:
        """See `Sensor.sample`. The values are those of the command's last whole line."""
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, ""):
            values = [value.strip() for value in line.split(",")]
            if len(values) == len(self._columns):
                self._latest = {
                    _xpu_column(name): float(value)
                    for name, value in zip(self._columns, values, strict=True)
                    if name not in ("Timestamp", "DeviceId") and _is_number(value)
                }
        return dict(self._latest)

    def close(self) -> None:
        """See `Sensor.close`."""
        self._process.kill()
        self._process.wait()


class Unavailable(RuntimeError):
    """A sensor is not available here; the message says why."""


def _xpu_column(name: str) -> str:
    """Return the column for one of xpu-smi's, such as `xpu power (W)` for `GPU Power (W)`."""
    words, _, unit = name.removeprefix("GPU ").partition(" (")
    return f"xpu {words.lower()} ({unit}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def open_sensors() -> tuple[list[Sensor], dict[str, str]]:
    """Return every sensor that is available here, and for each of the others the reason why it is not."""
    kinds: tuple[tuple[str, Callable[[], Sensor]], ...] = (
        ("cpu", CpuSensor),
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
