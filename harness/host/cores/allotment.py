"""Which cores and how many threads this process uses: decided once, applied to it, and told to every engine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.host.cores.affinity import bind, threads_of_process
from harness.host.cores.memory import bind_memory
from harness.host.cores.quota import cpu_quota
from harness.host.cores.start import START
from harness.host.cores.topology import PhysicalCore, numa_nodes, physical_cores


@dataclass(frozen=True)
class Allotment:
    """The part of the machine that a process uses.

    Attributes:
        cores: the physical cores.
        threads: the number of threads that one operator may use.
        chosen_by: what decided the number of threads.
        quota_cpus: the CPU quota of the process, in CPUs; None where there is none.
        node: the NUMA node to which the process is bound, None where it is not bound to one.
        memory: whether memory is bound to that node; None without a node.
    """

    cores: tuple[PhysicalCore, ...]
    threads: int
    chosen_by: str
    quota_cpus: float | None = None
    node: int | None = None
    memory: str | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The ids of the logical CPUs."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    def record(self) -> dict[str, Any]:
        """Return what a reader of a number has to know, serialisable as JSON."""
        return {
            "usable_cores": list(self.cpus),
            "physical_cores": len(self.cores),
            "numa_nodes": sorted({core.node for core in self.cores}),
            "quota_cpus": self.quota_cpus,
            "asked": self.threads,
            "chosen_by": self.chosen_by,
            "numa_node": self.node,
            "memory": self.memory,
        }


def allot(
    given: Iterable[int] = START,
    threads: int | None = None,
    source: str = "--threads",
    cores: Iterable[int] | None = None,
    node: int | None = None,
    root: Path = Path("/"),
) -> Allotment:
    """Decide which part of the machine is used. Nothing is applied yet.

    Without `threads`, there is one thread for each physical core, and no more than the CPU quota allows. Hyper-threads
    are used only if more threads than physical cores are asked for.

    Args:
        given: the logical CPUs that the process was given.
        threads: the number of threads, if it is asked for.
        source: who asks for the number of threads.
        cores: the logical CPUs to use, if not all that were given.
        node: the NUMA node to use, if not all of them.
        root: the folder in which `proc` and `sys` lie.

    Raises:
        ValueError: the process may not run there; the message says what it may use.
    """
    allowed = set(given)
    wanted = allowed
    if cores is not None:
        wanted = set(cores)
        if not wanted or wanted - allowed:
            raise ValueError(
                f"--cores {_listed(wanted)}: this process may run on {_listed(allowed)}; "
                f"choose among these, or start it with others (taskset, or the container's cpuset)"
            )
    if node is not None:
        of = numa_nodes(root)
        nodes = sorted({of.get(cpu, 0) for cpu in allowed})
        wanted = {cpu for cpu in wanted if of.get(cpu, 0) == node}
        if not wanted:
            raise ValueError(
                f"--numa-node {node} has none of the cores asked for; this process may use node "
                f"{', '.join(map(str, nodes))} with cores {_listed(allowed)}"
            )
    physical = physical_cores(wanted, root)
    quota_cpus = cpu_quota(root)
    if threads is not None:
        return Allotment(physical, threads, source, quota_cpus, node)
    most = len(physical) if quota_cpus is None else max(1, int(quota_cpus))
    if most < len(physical):
        return Allotment(physical, most, "CPU quota", quota_cpus, node)
    return Allotment(physical, len(physical), "physical cores", quota_cpus, node)


def _listed(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus))) or "none"


_taken: Allotment | None = None


def take(allotment: Allotment) -> Allotment:
    """Use this part of the machine: bind all threads of the process to it, and give every pool its number of threads.

    Returns:
        what is used, with whether memory could be bound.
    """
    import threadpoolctl
    import torch

    global _taken
    before = None if _taken is None else _taken.node
    bind(allotment.cpus, threads_of_process())
    if allotment.node is not None:
        why_not = bind_memory(allotment.node)
        told = f"bound to node {allotment.node}" if why_not is None else f"not bound: {why_not}"
        allotment = replace(allotment, memory=told)
    elif before is not None:
        bind_memory(None)
    threadpoolctl.threadpool_limits(allotment.threads)
    torch.set_num_threads(allotment.threads)
    _taken = allotment
    return allotment


def current() -> Allotment:
    """Return what this process uses: what was taken, else what would be by default."""
    return allot() if _taken is None else _taken


def asked_threads() -> int:
    """Return how many threads an operator of any engine is to use: the number taken, else torch's."""
    import torch

    return torch.get_num_threads() if _taken is None else _taken.threads


def usable_cores() -> int:
    """Return how many CPUs this process may use at one time: the logical CPUs, and no more than the quota."""
    here = current()
    return len(here.cpus) if here.quota_cpus is None else min(len(here.cpus), max(1, int(here.quota_cpus)))


def set_threads() -> int:
    """Take the default part of the machine with as many threads as OMP_NUM_THREADS says, and return their number.

    Raises:
        ValueError: OMP_NUM_THREADS is not a number of threads.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return take(allot(threads=threads_in(given, "OMP_NUM_THREADS"), source="OMP_NUM_THREADS")).threads


def threads_in(text: str, source: str) -> int | None:
    """Return the number of threads in a text, or None if the text is empty.

    OpenMP allows a list with a number for each level of nesting, of which the first one counts.

    Raises:
        ValueError: the text is not a number of threads.
    """
    outermost = text.partition(",")[0].strip()
    if not text:
        return None
    if not (outermost.isdecimal() and int(outermost)):
        raise ValueError(f"{source} {text!r} is no number of threads; correct or unset it")
    return int(outermost)


def give_back_cores() -> None:
    """Let the calling thread run on all the cores of the process again, for the threads that a library starts from it.

    An OpenMP runtime may have bound it to one core, which its new threads would inherit.
    """
    if _taken is not None:
        bind(_taken.cpus, [0])
