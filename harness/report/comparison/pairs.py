"""Pairs the rows of two sides, refuses pairs that are no comparison, and compares the others."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.comparison.ratio import (
    Ratio,
    compare_accuracies,
    compare_images,
    compare_intervals,
    compare_rounds,
    undecided,
)
from harness.report.comparison.runs import COMPARED, WINDOWS, MeasuredRow, RowKey, Run
from harness.report.record_rows import Record
from harness.report.remarks import SHARED, remarks

# What may differ between two sides where the comparison is to be made across it, and never without being named.
KINDS = ("machine", "device", "threads", "versions")
_BEST_BY_MEAN = (*WINDOWS, "end_to_end", "bulk", "training")
# How near answers are is part of the other rows' proof, what two sides in turns gave is a comparison already, and the
# others are checks of a server.
_NOT_COMPARED = ("parity", "versus", "overhead", "cross_check", "photographs")


@dataclass(frozen=True)
class Pair:
    """One row on both sides.

    Attributes:
        case: the case.
        measurement: the measurement, with what else tells rows of one case apart.
        first: the first side's number and unit, as text.
        second: the second side's.
        ratio: what the numbers say, None where the pair is refused.
        refused: why these two cannot be compared, else empty.
        remarks: what disturbed either side.
    """

    case: str
    measurement: str
    first: str
    second: str
    ratio: Ratio | None
    refused: str
    remarks: tuple[str, ...]

    @property
    def is_worse(self) -> bool:
        """Whether the second side is proven slower, or less right."""
        return self.ratio is not None and self.ratio.verdict in ("slower", "worse")


def compare_runs(
    first: Sequence[Run], second: Sequence[Run], *, bound_pct: float, across: Collection[str] = ()
) -> tuple[list[Pair], list[RowKey]]:
    """Pair and compare the rows of two sides.

    Args:
        first: the runs of the first side, at least one.
        second: the runs of the second side, at least one.
        bound_pct: by how many percent two times may differ and be called the same.
        across: which of `KINDS` may differ between the sides.

    Returns:
        The pairs, in the order of the first side's rows, and the rows that only one side has.
    """
    keys = list(dict.fromkeys(key for run in (*first, *second) for key in run.rows))
    keys = [key for key in keys if key[1] not in _NOT_COMPARED]
    pairs, alone = [], []
    for key in keys:
        sides = [[(run, run.rows[key]) for run in side if key in run.rows] for side in (first, second)]
        if not all(sides):
            alone.append(key)
            continue
        pairs.append(_pair(key, *sides, bound_pct=bound_pct, across=across))
    return pairs, alone


def differences(first: tuple[Run, MeasuredRow], second: tuple[Run, MeasuredRow]) -> Iterator[tuple[str, str]]:
    """Yield what differs between two rows: the kind of difference, and a sentence about it."""
    kinds: Mapping[str, Callable[[Run, Record], Any]] = {
        "weights": lambda _, record: record.get("identity", {}).get("weights_sha256"),
        "preprocessing": lambda _, record: record.get("identity", {}).get("preprocessing"),
        "calibration": lambda _, record: ((record.get("evidence") or {}).get("quantisation") or {}).get("calibration"),
        "data": lambda _, record: record.get("sample_sha256"),
        "terms": lambda _, record: record.get("terms"),
        "rate": lambda _, record: record.get("rate_per_second"),
        "machine": lambda run, _: _parts(run.environment.get("machine"), ("node", "memory_mib")),
        "device": lambda run, record: _device(run, record),
        "threads": lambda run, record: _threads(run, record),
        "versions": lambda run, _: run.environment.get("libraries"),
    }
    for kind, of in kinds.items():
        one, other = of(first[0], first[1].record), of(second[0], second[1].record)
        if one is not None and other is not None and one != other:
            yield kind, _told(kind, one, other)


def _pair(
    key: RowKey,
    first: Sequence[tuple[Run, MeasuredRow]],
    second: Sequence[tuple[Run, MeasuredRow]],
    *,
    bound_pct: float,
    across: Collection[str],
) -> Pair:
    case, measurement, apart = key
    records = first[0][1].record, second[0][1].record
    found = {kind: told for one in first for other in second for kind, told in differences(one, other)}
    refused = [told for kind, told in found.items() if kind not in across]
    if any(kind in KINDS for kind in found if kind not in across):
        named = ",".join(kind for kind in found if kind in KINDS)
        refused.append(f"--across {named} compares them all the same")
    disturbed = [
        f"{side}: {mark}"
        for side, of_side in (("first", first), ("second", second))
        for _, row in of_side
        for mark in remarks({**row.record, measurement: row.record})
    ]
    ratio = None if refused else _ratio(measurement, first, second, bound_pct)
    if ratio is not None and any(mark.endswith(SHARED) for mark in disturbed):
        # what waited for cores shows the other programs of the machine, and not the case
        ratio = Ratio("cannot tell", ratio.value, ratio.low, ratio.high, "a side was measured on a shared machine")
    return Pair(
        case,
        f"{measurement} {apart}".strip(),
        _number(records[0]),
        _number(records[1]),
        ratio,
        "; ".join(refused),
        tuple(dict.fromkeys(disturbed)),
    )


def _ratio(
    measurement: str,
    first: Sequence[tuple[Run, MeasuredRow]],
    second: Sequence[tuple[Run, MeasuredRow]],
    bound_pct: float,
) -> Ratio:
    if measurement in ("accuracy", "coco"):
        records = [[row.record for _, row in side] for side in (first, second)]
        if any(_score(one) != _score(side[0]) for side in records for one in side):
            return undecided("the runs of a side differ, and have answered the same images: give one of them")
        return _compare_scores(records[0][0], records[1][0], bound_pct)
    if measurement not in COMPARED:
        return undecided(f"rows of {measurement} are not compared")
    rounds = [[row.rounds_s for _, row in side] for side in (first, second)]
    if not all(run for side in rounds for run in side):
        return undecided("a file has no seconds a batch: it is of an older schema, or has no rounds")
    return compare_rounds(rounds[0], rounds[1], bound_pct, use_mean=measurement in _BEST_BY_MEAN)


def _compare_scores(first: Record, second: Record, bound_pct: float) -> Ratio:
    """Compare the scores of two rows on the same images, image by image where both say which were right."""
    one, other = _score(first), _score(second)
    if one is None or other is None:
        return undecided("a row has no score")
    bound_points = bound_pct / 100 * one["pct"]
    is_identical = first.get("answers_sha256") == second.get("answers_sha256") is not None
    if "top1" not in first:
        return compare_intervals(one, other, bound_points, is_identical=is_identical)
    bits = [base64.b64decode(record.get("right_base64") or "") for record in (first, second)]
    if not all(bits):  # of an earlier schema
        return compare_accuracies(_right(first), _right(second), bound_points)
    images = min(int(record["images"]) + int(record["unreadable_images"]) for record in (first, second))
    return compare_images(bits[0], bits[1], images, bound_points, is_identical=is_identical)


def _score(record: Record) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = record.get("top1") or record.get("ap")
    return found


def _right(record: Record) -> tuple[int, int]:
    images = int(record.get("images") or 0)
    return round(float(record["top1"]["pct"]) / 100 * images), images


def _number(record: Record) -> str:
    if "top1" in record or "ap" in record:  # their rate is that of decoding and comparing, too
        return f"{(_score(record) or {}).get('pct', math.nan):.2f}%"
    for field, unit in (("p50_ms", "ms"), ("images_per_second", "images/s")):
        value = record.get(field)
        is_first = (field == "images_per_second") == (record["measurement"] in _BEST_BY_MEAN)
        if value is not None and (is_first or "images_per_second" not in record):
            return f"{value:.4g} {unit}"
    score = _score(record)
    if score is not None:
        return f"{score['pct']:.2f}%"
    for field, unit in (("samples_per_second", "samples/s"), ("mean_ms", "ms")):
        if record.get(field) is not None:
            return f"{record[field]:.4g} {unit}"
    return "none"


def _parts(record: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return None if record is None else {name: record.get(name) for name in names}


def _device(run: Run, record: Record) -> Any:
    devices = run.environment.get("devices") or {}
    return (devices.get(record.get("device")) or {}).get("name")


def _threads(run: Run, record: Record) -> Any:
    evidence = record.get("evidence") or {}
    asked = (evidence.get("threads") or {}).get("asked")
    if asked is not None:
        return asked
    return (run.environment.get("threads") or {}).get("intra_op")


def _told(kind: str, one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
        return f"{kind}: " + ", ".join(
            f"{name} {_short(one.get(name))} and {_short(other.get(name))}" for name in names
        )
    return f"{kind}: {_short(one)} and {_short(other)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
