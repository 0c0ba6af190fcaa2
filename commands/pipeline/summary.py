"""The numbers of a run as Kubeflow shows them: a table in Markdown, and single metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.report.record_rows import Record, rows_of

# The heading of each column of the table, and where its number is in a row.
NUMBERS: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "p50_ms": lambda row: row.get("latency", {}).get("p50_ms"),
    "p99_ms": lambda row: row.get("latency", {}).get("p99_ms"),
    "images_per_second": lambda row: row.get("throughput", {}).get("images_per_second"),
    "top1_pct": lambda row: row.get("accuracy", {}).get("top1", {}).get("pct"),
    "top5_pct": lambda row: row.get("accuracy", {}).get("top5", {}).get("pct"),
}
MEANINGS = {
    0: "passed",
    1: "a test failed",
    2: "it was interrupted",
    3: "an internal error",
    4: "wrong usage",
    5: "something that was named was not measured",
    137: "it was killed, as for memory",
    143: "it was stopped",
}


def markdown(records: Sequence[Record], status: int) -> str:
    """Return the table, a line a case, under a line that says how the run ended."""
    told = MEANINGS.get(status, "it ended early")
    lines = [f"visionmark: exit code {status}, {told}", "", f"| case | {' | '.join(NUMBERS)} |"]
    lines.append("|" + " --- |" * (1 + len(NUMBERS)))
    for row in rows_of(list(records)):
        cells = [number(row) for number in NUMBERS.values()]
        lines.append(f"| {row['case']} | {' | '.join('' if one is None else f'{one:.4g}' for one in cells)} |")
    return "\n".join(lines) + "\n"


def metrics_of(records: Sequence[Record]) -> dict[str, float]:
    """Return the numbers of every case by name, such as `resnet50-cpu-fp32-bs1-eager p50_ms`."""
    found = {}
    for row in rows_of(list(records)):
        for name, number in NUMBERS.items():
            value = number(row)
            if value is not None:
                found[f"{row['case']} {name}"] = value
    return found
