"""The cells of the tables that commands print."""

from __future__ import annotations

from harness.report.record_rows import Record

# What the cells say that stand for a number which the sample does not support.
NEEDS_MORE = "n<36, w<5: fewer rounds or windows than the number needs"


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with as many digits as are worth reading, or so many; empty for None."""
    if value is None:
        return ""
    return f"{value:.{(0 if value >= 1000 else 1 if value >= 100 else 2) if digits is None else digits}f}"


def rate(row: Record) -> str:
    """Return the images per second as text, or how many windows they would need."""
    found = row.get("throughput")
    if found is None or found["images_per_second"] is not None:
        return number(None if found is None else found["images_per_second"])
    return f"w<{found['windows'] + found['missing_windows']}"


def percentile(row: Record, name: str) -> str:
    """Return the percentile as text, or how many rounds it would need."""
    latency = row.get("latency")
    if latency is None:
        return ""
    value = latency[f"{name}_ms"]
    return f"n<{latency['rounds'] + latency[f'{name}_missing_rounds']}" if value is None else number(value)
