"""Sharing physical cores out among processes that run at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from harness.host.cores.topology import PhysicalCore


def share_out(cores: Sequence[PhysicalCore], parts: int) -> list[tuple[PhysicalCore, ...]]:
    """Return the physical cores of each part: shares without overlap, whose sizes differ by one core at most.

    Hyper-threads of one core stay together. A part stays on one NUMA node where the sizes allow it. If there are fewer
    cores than parts, each part has one core, which it shares with others.

    Args:
        cores: the cores, node by node, as `physical_cores` returns them.
        parts: the number of parts.
    """
    if parts > len(cores):
        return [(cores[index % len(cores)],) for index in range(parts)]
    nodes = [list(group) for _, group in groupby(cores, key=lambda core: core.node)]
    per_node = [max(1, round(parts * len(node) / len(cores))) for node in nodes]
    if sum(per_node) == parts and all(count <= len(node) for count, node in zip(per_node, nodes, strict=True)):
        shares = [share for node, count in zip(nodes, per_node, strict=True) for share in _cut(node, count)]
        if max(map(len, shares)) - min(map(len, shares)) <= 1:
            return shares
    return _cut(cores, parts)


def _cut(cores: Sequence[PhysicalCore], parts: int) -> list[tuple[PhysicalCore, ...]]:
    share, rest = divmod(len(cores), parts)
    ends = [share * (index + 1) + min(index + 1, rest) for index in range(parts)]
    return [tuple(cores[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
