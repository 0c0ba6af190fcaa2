"""Makes a row of the records of one case, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from harness.cases import PRECISIONS, Case

Record = dict[str, Any]
# A throughput has to lie between these shares of the batch size over p50; the two are timed some seconds apart.
LEAST_SHARE_PCT, MOST_SHARE_PCT = 67, 150


def rows_of(records: Iterable[Record]) -> list[Record]:
    """Return one row per case that holds each measurement under its kind, fastest first within a model and batch size.

    Args:
        records: the records as they are in `extra_info`, one per measurement.
    """
    rows: dict[tuple[str, int | None], Record] = {}
    for record in records:  # two rows of a profile may be one case
        row = rows.setdefault((record["case"], record.get("profile_row")), dict(record))
        row[record["measurement"]] = record
        if record["measurement"] in ("streams", "served", "open_loop"):  # one window gives both
            row["latency"] = row["throughput"] = record
        if record["measurement"] in ("served", "open_loop"):
            # a record of an earlier version lacks the floor, which is that of its precision
            floor_db = record.get("sqnr_floor_db", PRECISIONS[record["precision"]].sqnr_floor_db)
            row["parity"] = {"sqnr_db": record["answers_sqnr_db"], "sqnr_floor_db": floor_db}
    return sorted(rows.values(), key=_order)


def disagreement(row: Record) -> str | None:
    """Return what is wrong if a row's latency and throughput contradict each other, or None if they do not.

    Batches that run one after the other, each waited for, give a throughput of the batch size over p50. A window of
    several open batches can only be faster, and on the host, which has computed when `submit` returns, not even that.
    If the throughput is far from this, something else had the machine, or its clocks changed, while one of the two was
    timed.
    """
    latency, throughput = row.get("latency"), row.get("throughput")
    if latency is None or throughput is None or latency is throughput:
        return None
    if latency["p50_ms"] is None or throughput["images_per_second"] is None:
        return None
    share_pct = 100 * throughput["images_per_second"] * latency["p50_ms"] / 1e3 / row["batch"]
    most_pct = MOST_SHARE_PCT if row["device"] == "cpu" else math.inf
    if LEAST_SHARE_PCT <= share_pct <= most_pct:
        return None
    return f"its images/s is {share_pct:.0f}% of batch over p50: the machine was not the same for both"


def case_of_row(row: Record) -> Case:
    """Return the case of a row or of a record."""
    several = row.get("streams", 1), row.get("replicas", 1), tuple(row.get("settings", "").split())
    return Case(row["model"], row["device"], row["precision"], row["batch"], row["engine"], *several)


def _order(row: Record) -> tuple[Any, ...]:
    throughput = row.get("throughput", {}).get("images_per_second") or 0.0
    p50_ms = row.get("latency", {}).get("p50_ms")
    return row["model"], row["batch"], -throughput, float("inf") if p50_ms is None else p50_ms, row["case"]
