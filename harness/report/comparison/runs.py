"""Reads a file of `--benchmark-json` as a run: its rows with their rounds, and the machine that gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.record_rows import Record

# A case, a measurement, and what else tells rows of one case apart.
RowKey = tuple[str, str, str]
# Since this schema the rounds of throughput and of streams are seconds a batch; before it, of a window of any length.
SECONDS_A_BATCH = 3
WINDOWS = ("throughput", "streams")
# Since this schema those of passes over files are, too.
SECONDS_A_BATCH_OF_FILES = 4
# Whose rounds are batches or steps in every schema.
_BATCHES = ("latency", "generated", "training_step")
# Who times requests by itself, in `rounds_ms`.
_REQUESTS = ("served", "open_loop")
# Of which a run gives one number.
_ONE_A_RUN = ("bulk", "training", "scenario")
COMPARED = (*_BATCHES, *WINDOWS, *_REQUESTS, *_ONE_A_RUN, "end_to_end")
_APART = ("profile_row", "scenario", "protocol", "mode", "clients")


class UnreadableRun(ValueError):
    """A file is no run of this suite that could be compared."""


@dataclass(frozen=True)
class MeasuredRow:
    """One measurement of one case.

    Attributes:
        record: the record as it is in `extra_info`.
        rounds_s: the rounds in the order in which they were measured, in seconds a batch or a request, or the one
            number that a run gives; empty where they were not kept, or not as that.
    """

    record: Record
    rounds_s: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """One file of results.

    Attributes:
        path: the file.
        environment: the machine, its devices and the versions, as `describe_environment` gave them.
        rows: the rows by case and measurement.
    """

    path: Path
    environment: Mapping[str, Any]
    rows: Mapping[RowKey, MeasuredRow]


def read_content(path: Path) -> dict[str, Any]:
    """Read a file of `--benchmark-json` as it is.

    Raises:
        UnreadableRun: the file is absent, is no JSON, or no run of this suite.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableRun(f"{path}: {error.strerror}; give a file that --benchmark-json wrote") from None
    except ValueError:
        raise UnreadableRun(f"{path} is no JSON; give a file that --benchmark-json wrote") from None
    own = content.get("visionmark") if isinstance(content, dict) else None
    if not isinstance(own, dict) or not isinstance(content.get("benchmarks"), list):
        raise UnreadableRun(f"{path} holds no run of visionmark; give a file that pytest wrote by --benchmark-json")
    return dict(content)


def run_of(path: Path, content: Mapping[str, Any]) -> Run:
    """Return the run of a file that `read_content` has read."""
    own = content["visionmark"]
    rows: dict[RowKey, MeasuredRow] = {}
    for benchmark in content["benchmarks"]:
        record = benchmark.get("extra_info") or {}
        if "case" not in record or "measurement" not in record:  # a benchmark of another suite in the same run
            continue
        rows[_key(record)] = MeasuredRow(record, _rounds_s(benchmark, record, own.get("schema", 1)))
    return Run(path, own.get("environment") or {}, rows)


def read_run(path: Path) -> Run:
    """Read a file of `--benchmark-json`.

    Raises:
        UnreadableRun: the file is absent, is no JSON, or no run of this suite.
    """
    return run_of(path, read_content(path))


def _key(record: Record) -> RowKey:
    apart = " ".join(f"{name}={record[name]}" for name in _APART if record.get(name) is not None)
    return record["case"], record["measurement"], apart


def _rounds_s(benchmark: Mapping[str, Any], record: Record, schema: int) -> tuple[float, ...]:
    """Return what can be compared of a row. A round that is a whole test says how long it was asked to last."""
    kind = record["measurement"]
    if kind in _REQUESTS:
        return tuple(time_ms / 1e3 for time_ms in record.get("rounds_ms") or ())
    if kind in _ONE_A_RUN:
        rate = record.get("images_per_second") or record.get("samples_per_second")
        return (1 / rate,) if rate else (record["mean_ms"] / 1e3,) if record.get("mean_ms") else ()
    since = {**dict.fromkeys(_BATCHES, 1), **dict.fromkeys(WINDOWS, SECONDS_A_BATCH)}
    since["end_to_end"] = SECONDS_A_BATCH_OF_FILES
    if schema < since.get(kind, schema + 1):
        return ()
    return tuple(benchmark.get("stats", {}).get("data") or ())
