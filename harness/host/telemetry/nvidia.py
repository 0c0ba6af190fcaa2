"""The sensor of NVIDIA GPUs, read through nvidia-ml-py (NVML)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from harness.host.telemetry.sensor import Reading, Unavailable

# NVML's reasons for lower clocks, other than idleness and what a user set.
# Source: NVML API reference, "NvmlClocksEventReasons".
_THROTTLE = {"SwPowerCap": 0x4, "HwSlowdown": 0x8, "SwThermalSlowdown": 0x20, "HwThermalSlowdown": 0x40}
_THROTTLE |= {"HwPowerBrakeSlowdown": 0x80}
# The driver gives these as means over up to this many seconds, so they say nothing of a window that is younger.
# Source: NVML API reference, `nvmlDeviceGetUtilizationRates` and `nvmlDeviceGetPowerUsage`.
AVERAGED_S = 1.0
_AVERAGED = ("utilization (%)", "power (W)")


class NvidiaSensor:
    """All NVIDIA GPUs of the machine: NVML does not know `CUDA_VISIBLE_DEVICES`, and has an order of its own."""

    name = "nvidia"

    def __init__(self, library: Any = None, clock: Callable[[], float] = perf_counter) -> None:
        """Open the driver's library.

        Args:
            library: the module `pynvml` or one with the same functions, None to import it.
            clock: the clock in seconds.

        Raises:
            Unavailable: if it is not installed or cannot be used; the message has the driver's own reason.
        """
        if library is None:
            if find_spec("pynvml") is None:
                raise Unavailable("nvidia-ml-py is not installed: pip install -r requirements.txt")
            library = import_module("pynvml")
        self._nvml = library
        self._clock = clock
        try:
            library.nvmlInit()
            self._handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
            self._uuids = [str(library.nvmlDeviceGetUUID(handle)) for handle in self._handles]
        except library.NVMLError as error:
            raise Unavailable(str(error)) from None
        self.begin()

    def begin(self) -> None:
        """See `Sensor.begin`."""
        self._missing: dict[str, str] = {}
        self._begun_s = self._clock()
        self._is_settled = False

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        found = dict(self._missing)
        if not self._is_settled:
            for index in range(len(self._handles)):
                for column in _AVERAGED:
                    name = f"gpu{index} {column}".partition(" (")[0]
                    found.setdefault(name, f"the driver's mean is over {AVERAGED_S:g} s, and the window was shorter")
        return found

    def devices(self) -> Mapping[str, str]:
        """See `Sensor.devices`: the UUID of each GPU."""
        return {f"gpu{index}": uuid for index, uuid in enumerate(self._uuids)}

    def sample(self) -> Reading:
        """See `Sensor.sample`."""
        found: Reading = {}
        self._is_settled = self._clock() - self._begun_s >= AVERAGED_S
        for index, handle in enumerate(self._handles):
            for column, ask in self._questions(handle).items():
                if column in _AVERAGED and not self._is_settled:
                    continue
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
            "processes (count)": lambda: float(len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))),
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
