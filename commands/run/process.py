"""One process that measures cases: started, watched and ended, with what is told of its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT
from harness.jobs.pytest_child import STACKS_SIGNAL

# How long a process has for ending itself: its servers and streams end in order. pytest ends itself after 9 s.
GRACE_S = 12.0
# How long a process has for writing its stacks, and by how much its log has then grown.
STACKS_WITHIN_S = 2.0
# How much of the end of a log is read.
LOG_END_BYTES = 65536


class WatchedProcess:
    """A child in a session of its own, so that it can be ended with all that it started. Its output goes to a file."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        """Start the child in the checkout.

        Args:
            command: its command line.
            variables: its environment.
            log: the file that its output is written to.
        """
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, within_s: float) -> int | None:
        """Return the exit status, negative for a signal, or None if the process runs on after so many seconds."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def write_stacks(self) -> None:
        """Let the process write where it is into its log. One that is about to end, or cannot, is not waited for."""
        before = self._log.stat().st_size
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, STACKS_SIGNAL)
        for _ in range(int(STACKS_WITHIN_S / 0.1)):
            if self.wait(0.1) is not None or self._log.stat().st_size > before:
                self.wait(0.1)  # the rest of the stacks
                return

    def end(self) -> int:
        """End the process in order, or kill it with all of its session if it does not end; return its exit status."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        status = self.wait(GRACE_S)
        return self.kill() if status is None else status

    def kill(self) -> int:
        """Kill the process and all of its session that is left, and return its exit status."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def printed(self) -> str:
        """Return the end of what it printed."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_END_BYTES))
            return file.read().decode("utf-8", errors="replace")


class JournalTail:
    """Reads what is added to a journal from now on, line by line, while others write it."""

    def __init__(self, path: Path) -> None:
        """Begin at the present end of the file."""
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def new_entries(self) -> list[dict[str, Any]]:
        """Return the whole lines that were added since the last call. One that is no JSON was cut by its writer."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        entries = []
        for line in whole.splitlines():
            with suppress(ValueError):
                entries.append(json.loads(line))
        return entries
