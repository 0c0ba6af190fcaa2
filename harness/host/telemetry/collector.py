"""The collector: samples between `start` and `stop` into one file per window, and ends at `kill`.

`telemetry_N.csv` is written whole when window N has ended. `sources.json` says which devices were sampled, and what
cannot be measured and why.
"""

from __future__ import annotations

import csv
import io
import json
import selectors
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter, time
from types import FrameType

from harness.files import write_whole
from harness.host.telemetry import CLOCK, WALL
from harness.host.telemetry.rapl import PACKAGES
from harness.host.telemetry.sensor import Reading, Sensor
from harness.host.telemetry.sensors import open_sensors

MOST_BYTES = 1024
ACCEPTED_WITHIN_S = 1.0


class Readings:
    """The samples of one window."""

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        """Let every sensor forget what was before, and take the first sample."""
        self._sensors = sensors
        self._rows: list[Reading] = []
        for sensor in sensors:
            sensor.begin()
        self.take()

    def take(self) -> None:
        """Take one sample of every sensor, with the clock that all processes share and the time of day."""
        row = {CLOCK: perf_counter(), WALL: time()}
        for sensor in self._sensors:
            row.update(sensor.sample())
        self._rows.append(row)

    def text(self) -> str:
        """Return the samples as CSV, with an empty field where a sample has no value."""
        out = io.StringIO()
        writer = csv.DictWriter(out, list(dict.fromkeys(name for row in self._rows for name in row)))
        writer.writeheader()
        writer.writerows(self._rows)
        return out.getvalue()


def serve(path: Path | None, folder: Path, interval_s: float, domain: str = PACKAGES) -> None:
    """Obey commands until `kill`, SIGTERM or Ctrl-C. Without a socket, sample from now on.

    Args:
        path: the socket, which is made here and replaces one that was left behind; None for no socket.
        folder: the folder in which the files are written.
        interval_s: seconds between two samples.
        domain: which zones of the processor's energy are counted; see `Rapl`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sensors, absent = open_sensors(domain)
    ends = _Ends()
    window: Readings | None = None
    number = 0
    selector = selectors.DefaultSelector()
    server = _bind(path) if path is not None else None

    def start() -> None:
        nonlocal window, number
        if window is None:
            window, number = Readings(sensors), number + 1

    def stop() -> None:
        nonlocal window
        if window is not None:
            window.take()
            missing = {**absent, **{name: why for sensor in sensors for name, why in sensor.missing().items()}}
            devices = {name: known for sensor in sensors for name, known in sensor.devices().items()}
            about = {"interval_s": interval_s, "devices": devices, "missing": missing}
            write_whole(folder / "sources.json", json.dumps(about, indent=2))
            write_whole(folder / f"telemetry_{number}.csv", window.text())
            window = None

    try:
        if server is None:
            start()
        else:
            selector.register(server, selectors.EVENT_READ)
        due_s = monotonic() + interval_s
        while not ends.is_asked:
            heard = selector.select(max(0.0, due_s - monotonic()) if window is not None else 0.2)
            if heard and server is not None:
                command = _receive(server)
                if command == "start":
                    start()
                    due_s = monotonic() + interval_s
                elif command == "stop":
                    stop()
                elif command == "kill":
                    break
            if window is not None and monotonic() >= due_s:
                window.take()
                due_s = max(due_s + interval_s, monotonic())
        stop()
    finally:
        selector.close()
        for sensor in sensors:
            sensor.close()
        if server is not None and path is not None:
            server.close()
            path.unlink(missing_ok=True)


class _Ends:
    """Records whether a signal has asked this process to end."""

    def __init__(self) -> None:
        self.is_asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True


def _bind(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(8)
    return server


def _receive(server: socket.socket) -> str:
    """Return the command of one connection. A client that says nothing is not waited for."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(ACCEPTED_WITHIN_S)
        try:
            return connection.recv(MOST_BYTES).decode("ascii", "replace").strip()
        except OSError:
            return ""
