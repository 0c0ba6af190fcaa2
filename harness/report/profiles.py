"""Profiles: predefined use cases as a CSV, one case per row, and the kept results by which a run can be resumed.

The meaning of the options is not known here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.report.identity import digest_of

# The FBNet sample's name for both durations at once.
TEST_DURATION = "test_duration"


class BadProfile(ValueError):
    """A profile cannot be read; the message names the row and the column."""


@dataclass(frozen=True)
class ProfileRow:
    """One row of a profile.

    Attributes:
        number: the number of the row, from 1, not counting the heading.
        columns: for each column, its value as it stands; empty values are left out.
    """

    number: int
    columns: Mapping[str, str]


def read_profile(path: Path, known: Iterable[str]) -> list[ProfileRow]:
    """Return the rows of a profile.

    Args:
        path: the CSV file.
        known: the names of the columns that exist, beside `test_duration`.

    Raises:
        BadProfile: if there is no such file, no row or an unknown column, or if a row has more or fewer values than
            columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadProfile(f"{path}: {error}; give a CSV such as those in profiles/") from None
    lines = [line for line in csv.reader(io.StringIO(text)) if any(value.strip() for value in line)]
    if len(lines) < 2:
        raise BadProfile(f"{path} has no rows; the first line names the columns, each further line is a case")
    names = [name.strip() for name in lines[0]]
    allowed = {TEST_DURATION, *known}
    for name in names:
        if name not in allowed or names.count(name) > 1:
            what = "is there twice" if name in allowed else f"is unknown; there are {', '.join(sorted(allowed))}"
            raise BadProfile(f"{path}, heading: column {name!r} {what}")
    rows = []
    for number, values in enumerate(lines[1:], 1):
        if len(values) != len(names):
            raise BadProfile(f"{path}, row {number}: {len(values)} values for {len(names)} columns")
        columns = {name: value.strip() for name, value in zip(names, values, strict=True)}
        rows.append(ProfileRow(number, {name: value for name, value in columns.items() if value}))
    return rows


def identity_of_row(row: ProfileRow, case: str, terms: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return a hexadecimal digest of what a kept record must have been measured as, to stand for this row.

    Args:
        row: the row as it stands.
        case: the case of the row.
        terms: what else changes the number: weights, durations, data.
        environment: the result of `describe_environment`.
    """
    return digest_of([dict(row.columns), case, dict(terms)], environment)


def is_complete(path: Path, identity: str) -> bool:
    """Return whether a kept record is whole, with a number, of a row that passed, and of the same identity."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    has_number = isinstance(kept, dict) and bool(kept.get("records"))
    return has_number and kept.get("status") == "passed" and kept.get("identity") == identity


def flattened(document: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested document as one level of dotted keys."""
    if isinstance(document, Mapping):
        pairs = document.items()
    elif isinstance(document, list | tuple):
        pairs = ((str(index), value) for index, value in enumerate(document))  # type: ignore[assignment]
    else:
        return {prefix: document}
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.update(flattened(value, f"{prefix}.{key}" if prefix else str(key)))
    return found


def summary_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV. The columns are the union of the rows' keys, in the order in which they appear."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
