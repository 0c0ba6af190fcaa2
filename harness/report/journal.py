"""Writes and reads a journal: what a run measured, what gave no row, and which case ended its process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from harness.report.record_rows import Record

# Failures that are findings: the case is not what its label says, or its answers are not right.
FINDINGS = {"Contradiction", "WrongAnswers", "AssertionError", "AccuracyFailure"}
# How the lines begin that a process writes which did not write the line before.
BEGINNINGS = ('{"run"', '{"planned"', '{"ended"')
# Since this schema it is certain that a journal says which cases are over.
CLOSED_SINCE = 4
# How many journals of earlier runs are kept beside the present one.
EARLIER_KEPT = 20


class JournalFile:
    """A journal that is being written, line by line. If a write fails, the reason is kept and the run goes on.

    Attributes:
        path: the file.
        failure: why no more can be written, None as long as all was written.
    """

    def __init__(self, path: Path, *, is_new: bool) -> None:
        """Open the file.

        Args:
            path: the file, whose folder is made.
            is_new: whether the journal of an earlier run is renamed first, with the time of its last line in its name;
                otherwise lines are added to it.
        """
        self.path = path
        self.failure: str | None = None
        self._file: TextIOWrapper | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # the file stays open: where another run renames it, the lines of this one still go to it
            self._file = _opened_anew(path) if is_new else _opened_again(path)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line of JSON, which is in the file when this returns."""
        if self._file is None or self.failure is not None:
            return
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            self.failure = error.strerror or str(error)

    def drop_oldest(self) -> None:
        """Delete the oldest of the renamed journals, of which `EARLIER_KEPT` stay."""
        earlier = sorted(self.path.parent.glob(f"{self.path.stem}.*Z*{self.path.suffix}"))
        for path in earlier[:-EARLIER_KEPT]:
            with suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Append one line to a journal that others write as well, also after one that died in the middle of a line.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened_again(path) as file:
        file.write(json.dumps(line) + "\n")


def _opened_anew(path: Path) -> TextIOWrapper:
    """Open a new file. One that is there is renamed to a name that no other file has."""
    while True:
        try:
            return path.open("x", encoding="utf-8")
        except FileExistsError:
            with suppress(FileNotFoundError):  # another run has just renamed it
                _rename(path)


def _opened_again(path: Path) -> TextIOWrapper:
    """Open a file to add lines to it. A line in which a process died is ended first, so that the next one is whole."""
    file = path.open("a", encoding="utf-8")
    if file.tell():
        with path.open("rb") as written:
            written.seek(-1, os.SEEK_END)
            if written.read(1) != b"\n":
                file.write("\n")
    return file


def _rename(path: Path) -> None:
    last = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while (name := path.with_name(f"{path.stem}.{last}-{number:03}{path.suffix}")).exists():
        number += 1
    path.rename(name)


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
        schema: the version of the form of the records, None where it is not told.
        command: the command line of pytest, empty where it is not told.
        rounds_s: for each record its rounds as pytest-benchmark keeps them, in seconds; empty where they are not told.
        closed: the cases of which all tests are over; None where an earlier version wrote no such lines.
    """

    environment: dict[str, Any] | None
    records: tuple[Record, ...]
    missing: tuple[Missing, ...]
    opened: tuple[str, ...]
    schema: int | None = None
    command: tuple[str, ...] = ()
    rounds_s: tuple[tuple[float, ...], ...] = ()
    closed: tuple[str, ...] | None = None

    @property
    def last(self) -> str | None:
        """The case that was open when the journal ended, None if none was begun."""
        return self.opened[-1] if self.opened else None


def read_journal(path: Path) -> Journal:
    """Return a journal, whole or as far as its process got; it is empty if there is no file.

    Raises:
        ValueError: if a line is not JSON, other than the last of a run, which a process may have died in.
    """
    return _journal_of(read_entries(path))


def read_runs(path: Path) -> list[Journal]:
    """Return each of the runs whose lines are in one file, in the order in which they were begun.

    Raises:
        ValueError: as for `read_journal`.
    """
    runs: list[list[dict[str, Any]]] = []
    for entry in read_entries(path):
        if "run" in entry or not runs:
            runs.append([])
        runs[-1].append(entry)
    return [_journal_of(entries) for entries in runs]


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal as they are, but for one that a process died in; none if there is no file.

    Raises:
        ValueError: as for `read_journal`.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            is_last_of_a_run = number == len(lines) or lines[number].startswith(BEGINNINGS)
            if not is_last_of_a_run:
                raise ValueError(f"{path}:{number} is no JSON ({error}); measure anew") from None
    return entries


def _journal_of(entries: Sequence[Mapping[str, Any]]) -> Journal:
    missing: dict[str, Missing] = {}
    for entry in entries:
        if "outcome" in entry:
            missing.setdefault(entry["case"], Missing(**entry))
        elif "ended" in entry:  # who watched the process knows better than what was written in it
            ended = entry["ended"]
            missing[ended["case"]] = Missing(ended["case"], ended["outcome"], "", ended["reason"])
    run: Mapping[str, Any] = next((entry for entry in entries if "run" in entry), {})
    closed = tuple(entry["closed"] for entry in entries if "closed" in entry)
    return Journal(
        run.get("run"),
        tuple(entry["row"] for entry in entries if "row" in entry),
        tuple(missing.values()),
        tuple(entry["opened"] for entry in entries if "opened" in entry),
        run.get("schema"),
        tuple(run.get("command", ())),
        tuple(tuple(entry.get("rounds_s", ())) for entry in entries if "row" in entry),
        closed if closed or (run.get("schema") or 0) >= CLOSED_SINCE else None,
    )


def joined(journals: Iterable[Journal]) -> tuple[list[Record], list[Missing]]:
    """Return the records and the missing cases of several journals."""
    read = list(journals)
    return [record for one in read for record in one.records], [gone for one in read for gone in one.missing]
