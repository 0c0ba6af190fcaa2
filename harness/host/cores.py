"""Finds which cores and how many threads a process may use, and shares cores out among processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> int:
    """Set how many threads one operator may use, and return the number.

    It is OMP_NUM_THREADS if that is set, else the number of usable cores.

    Raises:
        ValueError: if OMP_NUM_THREADS is not a number of threads.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    outermost = given.partition(",")[0].strip()  # OpenMP allows a list, with a number for each level of nesting
    if given and not (outermost.isdecimal() and int(outermost)):
        raise ValueError(f"OMP_NUM_THREADS {given!r} is no number of threads; correct or unset it")
    count = int(outermost) if given else usable_cores()
    torch.set_num_threads(count)
    return count


def split_cores(cores: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Return the cores of each part: equal shares without overlap, or one shared core each if there are too few."""
    if parts > len(cores):
        return [(cores[index % len(cores)],) for index in range(parts)]
    share, rest = divmod(len(cores), parts)
    ends = [share * (index + 1) + min(index + 1, rest) for index in range(parts)]
    return [tuple(cores[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
