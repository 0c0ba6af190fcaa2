"""Gathers what a page shows from files of `--benchmark-json`, of this schema and of the earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.report.comparison import Run, compare_runs, read_content, run_of
from harness.report.page.rounds import drawn_rounds, rounds_s_of
from harness.report.record_rows import Record, disagreement
from harness.report.remarks import remarks

# What the timeline of a record is made of. It is drawn, and so is not among the record's numbers a second time.
DRAWN = "rounds_ms"
# A bit for each image, which only a comparison reads.
_FOR_PAIRS = "right_base64"
# The outcome of a case that has its numbers, and so is there already.
MEASURED = "measured"
# The measurements that are timed apart and have to agree, with the number of each.
_AGREEING = {"latency": "p50_ms", "throughput": "images_per_second"}


class NothingMeasured(ValueError):
    """The files hold no row, so that there is nothing to show."""


def gathered(paths: Sequence[Path], *, bound_pct: float) -> dict[str, Any]:
    """Return what a page shows of some files.

    Args:
        paths: the files, of which a later one is compared with the earlier ones that have the same rows.
        bound_pct: by how many percent two times may differ and be called the same.

    Returns:
        `files`, a dictionary each; `rows`, one for each measurement and for each case that gave none, with its whole
        `record`, the number of its `file`, its `remarks` and its `rounds`; `pairs`, the rows that several files have,
        compared; and `bound_pct`.

    Raises:
        UnreadableRun: a file is absent, is no JSON, or no run of this suite.
        NothingMeasured: no file has a row.
    """
    contents = [read_content(path) for path in paths]
    rows = [row for index, content in enumerate(contents) for row in _rows(index, content)]
    if not rows:
        raise NothingMeasured(
            f"{', '.join(map(str, paths))}: no row was measured in it, so that there is nothing to show"
        )
    for row, drawn in zip(rows, drawn_rounds([row["rounds"] for row in rows]), strict=True):
        row["rounds"] = drawn
    return {
        "files": [_file(path, content) for path, content in zip(paths, contents, strict=True)],
        "rows": rows,
        "pairs": list(_pairs([run_of(*one) for one in zip(paths, contents, strict=True)], bound_pct)),
        "bound_pct": bound_pct,
    }


def _rows(index: int, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    schema = content["visionmark"].get("schema", 1)
    rows = []
    for benchmark in content["benchmarks"]:
        record = benchmark.get("extra_info") or {}
        if "case" not in record or "measurement" not in record:  # a benchmark of another suite in the same run
            continue
        kept = {name: value for name, value in record.items() if name not in (DRAWN, _FOR_PAIRS)}
        told = remarks({**record, record["measurement"]: record})
        rounds = rounds_s_of(benchmark, schema)
        rows.append({"file": index, "record": kept, "remarks": told, "rounds": rounds})
    for row, sentence in _disagreements(rows):
        row["remarks"]["disagrees"] = f"disagrees: {sentence}"
    outcomes = [{"file": index, "record": outcome, "remarks": {}, "rounds": None} for outcome in _outcomes(content)]
    return rows + outcomes


def _outcomes(content: Mapping[str, Any]) -> Iterable[Record]:
    """Yield what came of the cases without a number, as `visionmark run` and `visionmark recover` write it."""
    own = content["visionmark"]
    for outcome in (*(own.get("outcomes") or ()), *((own.get("recovered") or {}).get("missing") or ())):
        if outcome.get("outcome") != MEASURED:
            yield dict(outcome)


def _disagreements(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], str]]:
    """Yield the rows whose latency and throughput contradict each other, with the sentence about it."""
    cases: dict[tuple[str, Any], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        record = row["record"]
        kind = record["measurement"]
        if kind in _AGREEING and {"batch", "device", _AGREEING[kind]} <= record.keys():
            cases.setdefault((record["case"], record.get("profile_row")), {})[kind] = row
    for found in cases.values():
        records: Record = {kind: row["record"] for kind, row in found.items()}
        if len(records) == len(_AGREEING) and (told := disagreement({**records["latency"], **records})):
            yield from ((row, told) for row in found.values())


def _file(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    own = content["visionmark"]
    return {
        "name": path.name,
        "path": str(path),
        "datetime": content.get("datetime"),
        **{name: own.get(name) for name in ("schema", "command", "environment", "absent_devices", "recovered")},
        "machine": {name: (content.get("machine_info") or {}).get(name) for name in ("node", "machine", "system")},
        "commit": content.get("commit_info"),
    }


def _pairs(runs: Sequence[Run], bound_pct: float) -> Iterable[dict[str, Any]]:
    """Yield each row that an earlier file has too, compared with the first that has it."""
    for later, run in enumerate(runs):
        left = dict(run.rows)
        for earlier, first in enumerate(runs[:later]):
            common = {key: left.pop(key) for key in list(left) if key in first.rows}
            if not common:
                continue
            for pair in compare_runs([first], [replace(run, rows=common)], bound_pct=bound_pct)[0]:
                yield {"earlier": earlier, "later": later, **asdict(pair), "is_worse": pair.is_worse}
