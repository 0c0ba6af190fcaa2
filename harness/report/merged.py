"""One file from those that the machines of a sweep wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def merged(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return one file of pytest-benchmark with all rows, each with the `node` on which it was measured.

    The facts of the run and of the machine are those of the first one; those of every node are under `nodes`.

    Args:
        documents: for each case the name of its node, and the file that was written there.

    Raises:
        ValueError: there is none.
    """
    found = list(documents)
    if not found:
        raise ValueError("no case has left a number")
    whole = {**found[0][1], "benchmarks": []}
    nodes: dict[str, Any] = {}
    for node, document in found:
        nodes.setdefault(node, {"machine_info": document.get("machine_info"), "visionmark": document.get("visionmark")})
        for row in document["benchmarks"]:
            whole["benchmarks"].append({**row, "extra_info": {**row["extra_info"], "node": node}})
    return {**whole, "nodes": nodes}
