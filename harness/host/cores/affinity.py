"""Binding threads and new processes to logical CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def started_on(cpus: Iterable[int] | None) -> Iterator[None]:
    """Run the body, which starts a process, on these logical CPUs, so that the process has them from its beginning."""
    if cpus is None or not hasattr(os, "sched_getaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def bind(cpus: Sequence[int], threads: Iterable[int]) -> None:
    """Let these threads, of which 0 is the calling one, run on these logical CPUs only."""
    if hasattr(os, "sched_setaffinity"):
        for thread in threads:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                if os.sched_getaffinity(thread) != set(cpus):  # a sandbox may forbid even what changes nothing
                    os.sched_setaffinity(thread, cpus)


def threads_of_process() -> list[int]:
    """Return the ids of all threads of this process."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]
