"""The process of a server under its guard: starts, watches and stops it, reads its log, says how it ended.

Nothing here depends on Triton: what is started is a command.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from harness.triton import guard

STOP_S = guard.GRACE_S + guard.AFTERMATH_S + 5.0
LOG_LINES = 25
LOG_BYTES = 16_384


class ServerFailed(RuntimeError):
    """The server did not start or is no longer there; the message has the tail of its log."""


class Process:
    """A command that runs under its guard."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], prefix: str, log: Path, scratch: Path | None
    ) -> None:
        """Start the guard, which starts the command and removes `scratch` at the end, however the end comes."""
        self.prefix = prefix
        script = [
            *(sys.executable, "-I", "-S", guard.__file__),
            *(str(os.getpid()), prefix, str(scratch or ""), "--", *command),
        ]
        self._scratch = scratch
        self._log = log.open("w+b")  # held open, so that it can still be read when the folder has gone
        self._guard = subprocess.Popen(
            script,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=dict(environment),
            start_new_session=True,
            text=True,
        )
        assert self._guard.stdout is not None
        first: IO[str] = self._guard.stdout
        line = first.readline()
        first.close()
        if not line.strip().isdigit():
            self._guard.wait()
            raise ServerFailed(f"the server could not be started\n{self.log_tail()}")
        self.pid = int(line)

    def is_running(self) -> bool:
        """Return whether the server's own process is alive."""
        return self._guard.poll() is None and _state(self.pid) not in ("Z", "X", None)

    def how_it_ended(self) -> str:
        """Return words that say how the server ended."""
        try:
            code = self._guard.wait(guard.AFTERMATH_S + 1)
        except subprocess.TimeoutExpired:
            return "ended, but what it started has not"
        if code > 128:
            return f"was ended by {signal.Signals(code - 128).name}"
        if code < 0:
            return f"was ended with its guard, which {signal.Signals(-code).name} ended"
        return f"ended by itself with exit code {code}"

    def forget(self, secret: str) -> None:
        """Wipe a secret from the arguments of the command and its guard, which every user of the machine can read.

        The command must have read its arguments. Where the kernel does not allow it, nothing is done.
        """
        for pid in (self.pid, self._guard.pid):
            with suppress(OSError):
                _wipe_arguments(pid, secret.encode())

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")
        return "\n".join(text.splitlines()[-LOG_LINES:])

    def stop(self, fast: bool) -> int:
        """End the server and its guard, and return the server's exit code, which is 128 + N for signal N.

        Should the guard have been killed, its own exit code is returned instead, which is negative.

        Args:
            fast: whether to kill the server rather than ask it to end.
        """
        if fast and self.is_running():
            with suppress(ProcessLookupError):  # it ended by itself since the line above
                os.kill(self.pid, signal.SIGKILL)
        elif self._guard.poll() is None:
            self._guard.terminate()
        try:
            code = self._guard.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()  # the kernel kills the server with it
            code = self._guard.wait()
        if code < 0:  # the guard itself was killed and has cleaned nothing up
            guard.kill_group(self.pid)
            guard.clean_up(self.prefix, self._scratch)
        return code


def shared_memory_prefix() -> str:
    """Return a name with which no other server's shared memory begins."""
    return f"visionmark_{os.getpid()}_{secrets.token_hex(3)}_"


def _wipe_arguments(pid: int, secret: bytes) -> None:
    """Overwrite a secret wherever it is in a process's arguments. Source: proc(5), `arg_start` and `arg_end`."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # the 48th and 49th of all
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        arguments = memory.read(end - begin)
        place = arguments.find(secret)
        while place >= 0:
            memory.seek(begin + place)
            memory.write(b"*" * len(secret))
            place = arguments.find(secret, place + len(secret))


def _state(pid: int) -> str | None:
    """Return the process's state letter as in proc(5), None if the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return None
