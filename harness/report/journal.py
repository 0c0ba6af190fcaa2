"""Reads a journal (`--journal`): what a run measured, what gave no row, and which case ended its process."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.record_rows import Record

# Failures that are findings: the case is not what its label says, or its answers are not right.
FINDINGS = {"Contradiction", "WrongAnswers", "AssertionError", "AccuracyFailure"}


@dataclass(frozen=True)
class Missing:
    """A case without a number, or with fewer than it should have; `outcome` is skipped, failed, gap or died."""

    case: str
    outcome: str
    error: str
    reason: str

    @property
    def is_accident(self) -> bool:
        """Whether the outcome says nothing about the case, which might have been the best."""
        return self.outcome == "died" or (self.outcome == "failed" and self.error not in FINDINGS)


@dataclass(frozen=True)
class Journal:
    """What one process wrote.

    Attributes:
        environment: the environment of the process, None if it ended before it wrote it.
        records: the records as they are in `extra_info`.
        missing: one entry for each case without a number.
        opened: the cases in the order in which they were begun.
    """

    environment: dict[str, Any] | None
    records: tuple[Record, ...]
    missing: tuple[Missing, ...]
    opened: tuple[str, ...]

    @property
    def last(self) -> str | None:
        """The case that was open when the journal ended, None if none was begun."""
        return self.opened[-1] if self.opened else None


def read_journal(path: Path) -> Journal:
    """Return a journal, whole or as far as its process got; it is empty if there is no file.

    Raises:
        ValueError: if a line is not JSON, other than the last, which a process may have died in.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number} is no JSON ({error}); measure anew") from None
    missing: dict[str, Missing] = {}
    for entry in entries:
        if "outcome" in entry:
            missing.setdefault(entry["case"], Missing(**entry))
    return Journal(
        next((entry["run"] for entry in entries if "run" in entry), None),
        tuple(entry["row"] for entry in entries if "row" in entry),
        tuple(missing.values()),
        tuple(entry["opened"] for entry in entries if "opened" in entry),
    )


def joined(journals: Iterable[Journal]) -> tuple[list[Record], list[Missing]]:
    """Return the records and the missing cases of several journals."""
    read = list(journals)
    return [record for one in read for record in one.records], [gone for one in read for gone in one.missing]
