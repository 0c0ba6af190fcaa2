"""The physical cores of the machine, their hyper-threads and their NUMA nodes, as the kernel lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class PhysicalCore:
    """One physical core, as far as the process may use it. They are in the order of their nodes.

    Attributes:
        node: the NUMA node of the core.
        cpus: the ids of its logical CPUs (hyper-threads) that the process may use.
    """

    node: int
    cpus: tuple[int, ...]


def physical_cores(cpus: Iterable[int], root: Path = Path("/")) -> tuple[PhysicalCore, ...]:
    """Return the physical cores to which these logical CPUs belong, node by node.

    Where the kernel does not say which CPUs are siblings, each counts as a core, and where it does not say the node,
    the node is 0.

    Args:
        cpus: the ids of the logical CPUs.
        root: the folder in which `sys` lies.

    Source: Linux, Documentation/ABI/stable/sysfs-devices-system-cpu and -node.
    """
    allowed = set(cpus)
    nodes = numa_nodes(root)
    found = set()
    for cpu in allowed:
        listed = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings = {cpu, *(parse_cores(listed) if listed else ())} & allowed
        found.add(PhysicalCore(nodes.get(min(siblings), 0), tuple(sorted(siblings))))
    return tuple(sorted(found))


def numa_nodes(root: Path = Path("/")) -> dict[int, int]:
    """Return the NUMA node of each logical CPU, as far as it is known. `root` is the folder in which `sys` lies."""
    found = {}
    for folder in sorted((root / "sys/devices/system/node").glob("node[0-9]*")):
        for cpu in parse_cores(_read(folder / "cpulist")):
            found[cpu] = int(folder.name.removeprefix("node"))
    return found


def parse_cores(text: str) -> tuple[int, ...]:
    """Return the ids in a list such as `0-3,8`, in ascending order; the kernel and taskset write lists so.

    Raises:
        ValueError: the text is no such list.
    """
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, is_range, last = part.partition("-")
        last, _, stride = last.partition(":")
        words = (first, last if is_range else first, stride or "1")
        if not all(word.isdecimal() for word in words) or (stride and not int(stride)) or int(words[1]) < int(first):
            raise ValueError(f"{text!r} is no list of cores; write it as taskset does, such as 0-3,8")
        found.update(range(int(words[0]), int(words[1]) + 1, int(words[2])))
    return tuple(sorted(found))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
