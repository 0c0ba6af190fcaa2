"""A process between a test run and its server that leaves nothing behind, however either of them ends.

It is run as a script, by path, and needs only the standard library: `guard.py STARTER SHM_PREFIX SCRATCH -- COMMAND …`,
where STARTER is the pid of the process that runs it. It starts the command in a process group of its own, prints the
command's pid (the command's own output goes to standard error), and waits for the first of three events:

* the command ends: its group is killed and cleaned up after, and its exit code is passed on (128 + N for signal N);
* SIGTERM arrives from the process that started the guard: the command is asked to end, and killed after a while;
* the process that started the guard is gone: the group is killed at once.

If the starter is gone before the guard can watch it, nothing is started. If the guard itself is killed, the kernel
kills the command, and Triton's backend processes then end by themselves.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
GRACE_S = 12.0
# Backend processes notice within a second or so that their server has gone.
AFTERMATH_S = 3.0
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Guard one command and return its exit code."""
    starter, prefix, scratch, dashes, *command = arguments
    assert dashes == "--" and command and len(prefix) > 4, "guard.py STARTER SHM_PREFIX SCRATCH -- COMMAND"
    watched = _watch(int(starter))
    if watched is None:
        print("the process that started the guard has ended", file=sys.stderr)
        clean_up(prefix, Path(scratch) if scratch else None)
        return 1
    _become_reaper()
    asked, ask = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"x"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the test run handles Ctrl-C
    process = subprocess.Popen(
        command, stdout=sys.stderr, preexec_fn=_die_with(os.getpid()), start_new_session=True, close_fds=True
    )
    ended = os.pidfd_open(process.pid)
    print(process.pid, flush=True)
    code = None
    try:
        waiting = select.poll()
        for fd in (ended, asked, watched):
            waiting.register(fd, select.POLLIN)
        ready = {fd for fd, _ in waiting.poll()}
        if ready == {asked}:
            process.terminate()
            code = _wait(process, GRACE_S, give_up=watched)
    finally:
        if code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        kill_group(process.pid)
        clean_up(prefix, Path(scratch) if scratch else None)
    return code if code >= 0 else 128 - code


def _watch(starter: int) -> int | None:
    """Return a descriptor that is readable once the starter has ended, None if it has ended already.

    The pid is the starter's own word: the parent of an orphan is whoever takes orphans in, and would be watched for
    ever. A pid that meanwhile is another process's is not the parent's.
    """
    try:
        watched = os.pidfd_open(starter)
    except ProcessLookupError:
        return None
    if os.getppid() == starter:
        return watched
    os.close(watched)
    return None


def clean_up(prefix: str, scratch: Path | None) -> None:
    """Remove the shared memory whose name begins with the prefix, and the scratch folder if there is one."""
    for left_over in SHARED_MEMORY.glob(f"{prefix}*"):
        left_over.unlink(missing_ok=True)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)


def _become_reaper() -> None:
    """Have the command's orphans handed to this process, so that it can wait for them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child has to do first: have the kernel kill it when its parent ends."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the line above
            os._exit(1)

    return prepare


def _wait(process: subprocess.Popen[bytes], seconds: float, give_up: int) -> int | None:
    """Return the exit code, or None if the process does not end in time or the starter of the guard has gone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not select.select([give_up], [], [], 0)[0]:
        try:
            return process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    return None


def kill_group(group: int) -> None:
    """Kill every process of the group and wait until all are gone. The group's leader must have been waited for."""
    until = time.monotonic() + AFTERMATH_S
    while time.monotonic() < until:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
