"""Tells a telemetry collector when a window of measurement begins and ends.

The collector is either a process that is started here or one that somebody else runs. It never holds a measurement up.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from harness.files import CHECKOUT
from harness.host.telemetry.own import OwnDevice
from harness.host.telemetry.summary import summarise

TELL_WITHIN_S = 2.0
ANSWER_WITHIN_S = 3.0
INTERVAL_S = 0.2


class CollectorFailed(RuntimeError):
    """A collector is absent or has died; the message says what to do."""


def tell(path: Path, command: str) -> None:
    """Send one command to a collector.

    Args:
        path: the collector's socket.
        command: `start`, `stop` or `kill`.

    Raises:
        CollectorFailed: if nobody listens.
    """
    late = monotonic() + TELL_WITHIN_S
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(TELL_WITHIN_S)
            while True:
                try:
                    client.connect(str(path))
                    break
                except BlockingIOError:  # the FBNet sample's collector queues one connection, maybe our last one
                    if monotonic() > late:
                        raise
                    sleep(0.002)
            client.sendall(command.encode("ascii"))
    except OSError as error:
        raise CollectorFailed(
            f"no collector hears {command!r} at {path} ({error.strerror or error}); start one with "
            f"python -m harness.telemetry --socket {path} --output DIR, or drop --socket"
        ) from None


class OutsideCollector:
    """A collector that somebody else runs at a socket. It keeps its samples itself."""

    def __init__(self, path: Path) -> None:
        """Remember the socket; nothing is sent yet."""
        self._path = path

    def start(self) -> None:
        """Tell the collector that the window begins."""
        tell(self._path, "start")

    def stop(self, begun_s: float, ended_s: float, devices: Sequence[OwnDevice] = ()) -> dict[str, Any]:
        """Tell the collector that the window has ended, and return a record that says only who sampled."""
        tell(self._path, "stop")
        return {"collector": str(self._path), "window_s": ended_s - begun_s}

    def close(self) -> None:
        """Do nothing, because the collector goes on without this process."""


class OwnCollector:
    """A collector process that is started once and ended with the run."""

    def __init__(self) -> None:
        """Start the process. It is waited for when it is first needed."""
        self._folder = tempfile.TemporaryDirectory(prefix="visionmark-telemetry-")
        self._socket = Path(self._folder.name) / "socket"
        words = ["--socket", str(self._socket), "--output", self._folder.name, "--interval", str(INTERVAL_S)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.host.telemetry", *words, "--starter", str(os.getpid())],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that Ctrl-C reaches this process alone
        )
        self._windows = 0
        self._said = ""

    @property
    def pid(self) -> int:
        """The process id of the collector."""
        return self._process.pid

    def start(self) -> None:
        """Tell the collector that the window begins.

        Raises:
            CollectorFailed: if the process is gone or does not come up.
        """
        late = monotonic() + ANSWER_WITHIN_S * 3
        while not self._socket.exists():
            self._require_alive()
            if monotonic() > late:
                raise CollectorFailed("the collector did not come up; turn it off with --telemetry off")
            sleep(0.01)
        self._require_alive()
        tell(self._socket, "start")
        self._windows += 1

    def stop(self, begun_s: float, ended_s: float, devices: Sequence[OwnDevice] = ()) -> dict[str, Any]:
        """Tell the collector that the window has ended, and return the summary of its samples.

        Args:
            begun_s: when the window began, in seconds on the clock that all processes share.
            ended_s: when the window ended, in seconds on the same clock.
            devices: the devices of the case; empty for all of the machine.

        Raises:
            CollectorFailed: if the process died in the window or does not answer.
        """
        self._require_alive()
        tell(self._socket, "stop")
        file = Path(self._folder.name) / f"telemetry_{self._windows}.csv"
        late = monotonic() + ANSWER_WITHIN_S
        while not file.exists():
            self._require_alive()
            if monotonic() > late:
                raise CollectorFailed(f"the collector wrote no samples within {ANSWER_WITHIN_S:g} s")
            sleep(0.005)
        return summarise(file, begun_s, ended_s, devices)

    def _require_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            if self._process.stderr is not None and not self._process.stderr.closed:
                self._said = self._process.stderr.read()
            said = self._said.strip().splitlines()
            raise CollectorFailed(
                f"the collector died ({'signal ' + str(-code) if code < 0 else 'exit ' + str(code)})"
                f"{': ' + said[-1] if said else ''}; turn it off with --telemetry off"
            )

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._folder.cleanup()
