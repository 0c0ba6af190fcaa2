"""Makes a file of numbers, in the form of `--benchmark-json`, of the journal of a run that did not end."""

from __future__ import annotations

from typing import Any

from harness.report.journal import Journal


def recovered_json(journal: Journal, source: str) -> dict[str, Any]:
    """Return the rows of a run in the form in which pytest-benchmark's file has them.

    What only pytest-benchmark knows is not made up: there are no `stats`, no `machine_info` and no `version`, so that
    pytest-benchmark itself does not take the file for one of its own.

    Args:
        journal: what the run wrote as far as it got.
        source: where the journal was, for the reader of the file.
    """
    return {
        "benchmarks": [
            {"group": record["measurement"], "name": record["case"], "extra_info": record} for record in journal.records
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


def ended_in(journal: Journal) -> str | None:
    """Return the case in which a run was ended: the one that it had begun last, if it wrote nothing more about it."""
    told = {record["case"] for record in journal.records} | {one.case for one in journal.missing}
    return None if journal.last in told else journal.last
