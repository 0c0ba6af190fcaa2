"""How long this machine made its processes wait for a core, as the kernel counts it.

`/proc/pressure/cpu` counts the time in which any process of the machine waited. `/proc/self/task/*/schedstat` counts,
for each thread of this process, the time in which it could have run and no core was given to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

PROC = Path("/proc")


@dataclass(frozen=True)
class Waiting:
    """What the kernel has counted so far.

    Attributes:
        at_s: the time of the reading in seconds.
        pressure_s: the seconds in which any process of the machine waited for a core, None where it is not told.
        threads_s: for each thread of this process, the seconds for which it waited; None where it is not told.
    """

    at_s: float
    pressure_s: float | None
    threads_s: Mapping[str, float] | None


def read_waiting(proc: Path = PROC) -> Waiting:
    """Return what the kernel has counted so far. Nothing is raised where it does not tell.

    Args:
        proc: the folder of the kernel's counters.
    """
    return Waiting(perf_counter(), _pressure_s(proc), _threads_s(proc))


def shares_of(before: Waiting, after: Waiting) -> dict[str, float | None]:
    """Return what share of the time between two readings was waited for a core, in percent of the wall time.

    Returns:
        `cpu_pressure_pct`, the share in which any process of the machine waited, and `runqueue_wait_pct`, the share for
        which a thread of this process waited, that of the thread that waited longest: the others wait for it. Each is
        None where the kernel does not tell.
    """
    wall_s = after.at_s - before.at_s
    pressure = waited = None
    if wall_s > 0 and before.pressure_s is not None and after.pressure_s is not None:
        pressure = 100 * (after.pressure_s - before.pressure_s) / wall_s
    if wall_s > 0 and before.threads_s is not None and after.threads_s is not None:
        earlier = before.threads_s
        # a thread that has ended since cannot be asked; one that has begun since counts from its beginning
        waited = 100 * max(total_s - earlier.get(name, 0.0) for name, total_s in after.threads_s.items()) / wall_s
    return {"cpu_pressure_pct": pressure, "runqueue_wait_pct": waited}


def _pressure_s(proc: Path) -> float | None:
    try:
        lines = (proc / "pressure" / "cpu").read_text(encoding="utf-8").splitlines()
        some = next(line for line in lines if line.startswith("some "))
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, StopIteration):  # an older kernel, or a sandbox
        return None


def read_threads(processes: Iterable[int | str], proc: Path = PROC) -> dict[str, float] | None:
    """Return for each thread of these processes the seconds for which it has waited for a core so far.

    Args:
        processes: the ids of the processes; `self` is this one.
        proc: the folder of the kernel's counters.

    Returns:
        The seconds by thread, None where the kernel does not tell them of one of the processes.
    """
    found: dict[str, float] = {}
    for process in processes:
        threads = _threads_s(proc, process)
        if threads is None:
            return None
        found.update(threads)
    return found


def waited_ms(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> float | None:
    """Return the milliseconds that all these threads together waited for a core between two readings of them.

    Returns:
        None where one of the readings is. The kernel's sum of a whole machine, `/proc/pressure/cpu`, cannot be used for
        times as short as a request: it is brought up to date every two seconds.
    """
    if before is None or after is None:
        return None
    # a thread that has begun since counts from its beginning
    return 1e3 * sum(total_s - before.get(name, 0.0) for name, total_s in after.items())


def _threads_s(proc: Path, process: int | str = "self") -> dict[str, float] | None:
    found: dict[str, float] = {}
    try:
        threads = list((proc / str(process) / "task").iterdir())
    except OSError:
        return None
    for thread in threads:
        try:
            _, waited_ns, turns = (int(word) for word in (thread / "schedstat").read_text(encoding="utf-8").split())
        except (OSError, ValueError):  # the thread has ended
            continue
        if turns:  # a kernel without sched_info has zeros here
            found[thread.name] = waited_ns / 1e9
    return found or None
