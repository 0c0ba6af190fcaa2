"""Makes a file of numbers, in the form of `--benchmark-json`, of the journal of a run that did not end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.journal import Journal
from harness.report.record_rows import Record


def recovered_json(journal: Journal, source: str) -> dict[str, Any]:
    """Return the rows of a run in the form in which pytest-benchmark's file has them.

    What only pytest-benchmark knows is not made up: `stats` holds the rounds alone, where the journal has them, and
    there is no `machine_info` and no `version`, so that pytest-benchmark does not take the file for one of its own.

    Args:
        journal: what the run wrote as far as it got.
        source: where the journal was, for the reader of the file.
    """
    rounds = journal.rounds_s or ((),) * len(journal.records)
    return {
        "benchmarks": [
            benchmark_of(record, rounds_s) for record, rounds_s in zip(journal.records, rounds, strict=True)
        ],
        "visionmark": {
            "schema": journal.schema,
            "command": list(journal.command),
            "environment": journal.environment,
            "recovered": {
                "journal": source,
                "opened": list(journal.opened),
                "missing": [vars(one) for one in journal.missing],
                "ended_in": ended_in(journal),
            },
        },
    }


def benchmark_of(record: Record, rounds_s: Sequence[float]) -> dict[str, Any]:
    """Return one row in the form in which pytest-benchmark's file has it.

    Args:
        record: the record as it is in `extra_info`.
        rounds_s: its rounds as pytest-benchmark keeps them, in seconds; empty where they are not known.
    """
    stats = {"stats": {"rounds": len(rounds_s), "data": list(rounds_s)}} if rounds_s else {}
    return {"group": record["measurement"], "name": record["case"], **stats, "extra_info": record}


def ended_in(journal: Journal) -> str | None:
    """Return the case in which a run was ended: the one that it had begun last, if that was not over.

    Where the journal does not say which are over, it is the last one without a row or a reason.
    """
    told = {one.case for one in journal.missing}
    told |= {record["case"] for record in journal.records} if journal.closed is None else set(journal.closed)
    return None if journal.last in told else journal.last
