"""The sensor of Intel GPUs, through `xpu-smi dump`, whose lines are read while it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from harness.host.telemetry.sensor import Reading, Unavailable

# The metrics that xpu-smi is asked for: utilisation, power, frequency, temperature, memory, energy, throttle reason.
# Source: Intel XPU Manager and XPU System Management Interface user guide, "dump".
_METRICS = "0,1,2,3,8,18,35"
# All devices; the first one, for a command that does not know how to name all.
_DEVICES = ("-1", "0")
_KEYS = ("Timestamp", "DeviceId")


class XpuSensor:
    """Intel GPUs: `xpu` for the command's device 0, `xpu1` for the next.

    The command writes a line a second for each device, of the second before it. Of the first line in a window only the
    counters are used, because the rest is partly of the time before.
    """

    name = "xpu"

    def __init__(self, command: str = "xpu-smi") -> None:
        """Start the command.

        Raises:
            Unavailable: if the command is not installed or ends at once.
        """
        path = shutil.which(command)
        if path is None:
            raise Unavailable(f"{command} is not installed: it comes with Intel XPU Manager")
        heading = ""
        for devices in _DEVICES:
            self._process = subprocess.Popen(
                [path, "dump", "-d", devices, "-m", _METRICS, "-i", "1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self._process.stdout is not None
            heading = self._process.stdout.readline()
            if "Timestamp" in heading:
                break
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
        else:
            raise Unavailable(f"{command} dump: {heading.strip() or 'no output'}")
        os.set_blocking(self._process.stdout.fileno(), False)
        self._columns = [name.strip() for name in heading.split(",")]
        self._seen: set[str] = set()
        self._begun: set[str] = set()

    def begin(self) -> None:
        """See `Sensor.begin`. The lines that wait are of the time before."""
        self._lines()
        self._begun.clear()

    def missing(self) -> dict[str, str]:
        """See `Sensor.missing`."""
        ended = self._process.poll()
        if ended is not None:
            return {"xpu": f"xpu-smi ended with {ended}"}
        return {f"{device} throttled": "xpu-smi gives the reason in words" for device in sorted(self._seen)}

    def devices(self) -> Mapping[str, str]:
        """See `Sensor.devices`: the command's own number of each device."""
        return {device: device.removeprefix("xpu") or "0" for device in sorted(self._seen)}

    def sample(self) -> Reading:
        """See `Sensor.sample`. A line is given once, so that between two of them there is no value."""
        found: Reading = {}
        for values in self._lines():
            device = _device(values.get("DeviceId", "0"))
            is_first = device not in self._begun
            self._begun.add(device)
            for name, value in values.items():
                column = _column(device, name)
                if name not in _KEYS and _is_number(value) and (column.endswith("(J)") or not is_first):
                    found[column] = float(value)
        return found

    def _lines(self) -> list[dict[str, str]]:
        """Return the whole lines that were written since the last call, each as values by column of the command."""
        assert self._process.stdout is not None
        found = []
        for line in iter(self._process.stdout.readline, ""):
            values = [value.strip() for value in line.split(",")]
            if len(values) == len(self._columns):
                found.append(dict(zip(self._columns, values, strict=True)))
                self._seen.add(_device(found[-1].get("DeviceId", "0")))
        return found

    def close(self) -> None:
        """See `Sensor.close`."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _device(number: str) -> str:
    return "xpu" if number == "0" else f"xpu{number}"


def _column(device: str, name: str) -> str:
    """Return the column for one of xpu-smi's, such as `xpu power (W)` for `GPU Power (W)` of device 0."""
    words, _, unit = name.removeprefix("GPU ").partition(" (")
    return f"{device} {words.lower()} ({unit}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
