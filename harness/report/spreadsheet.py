"""All rows as a table of comma-separated values: a line a measurement, a column a field."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from harness.report.numbers import Scalar, flat

FIRST = ("file", "datetime", "case", "measurement", "model", "device", "precision", "batch", "engine")


def csv_text(data: Mapping[str, Any]) -> str:
    """Return the rows of `page.gathered` as CSV, with a line of headings.

    A column is a field of the records, under the name that it has there and with its unit in it; see `numbers.flat`.
    A field that a record does not have, or that has no value, is empty.
    """
    lines: list[dict[str, Scalar | None]] = []
    for row in data["rows"]:
        file = data["files"][row["file"]]
        lines.append({"file": file["path"], "datetime": file["datetime"], **flat(row["record"])})
    columns = list(dict.fromkeys((*FIRST, *(name for line in lines for name in line))))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
