"""`visionmark report RESULTS… -o report.html`: one page of all rows, with evidence and pictures, without a network.

Several files are shown together: rows that more than one has are compared, and drawn over the time of the runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from commands.compare import DEFAULT_BOUND_PCT
from harness.files import write_whole
from harness.report.comparison import UnreadableRun
from harness.report.page import NothingMeasured, gathered, page_html
from harness.report.spreadsheet import csv_text

OK, USAGE_ERROR, NOTHING = 0, 4, 5


def main(arguments: Sequence[str]) -> int:
    """Write the page, and the table where it is asked for.

    Returns:
        The exit status: 0; 4 if a file cannot be read or written, or Bokeh is absent; 5 if the files have no row.
    """
    asked = _parser().parse_args(arguments)
    try:
        data = gathered(asked.results, bound_pct=DEFAULT_BOUND_PCT)
        texts = {asked.output: page_html(data)}
        if asked.csv is not None:
            texts[asked.csv] = csv_text(data)
    except UnreadableRun as error:
        print(f"visionmark report: {error}", file=sys.stderr)
        return USAGE_ERROR
    except ModuleNotFoundError as error:
        way = "pip install -c constraints.txt -r requirements/core.txt"
        print(f"visionmark report: {error.name} is not installed, which draws the pictures: {way}", file=sys.stderr)
        return USAGE_ERROR
    except NothingMeasured as error:
        print(f"visionmark report: {error}", file=sys.stderr)
        return NOTHING
    for path, text in texts.items():
        try:
            write_whole(path, text)
        except OSError as error:
            print(f"visionmark report: {path}: {error.strerror}; give a file that can be written", file=sys.stderr)
            return USAGE_ERROR
    rows, files = len(data["rows"]), len(data["files"])
    counted = f"{rows} {'row' if rows == 1 else 'rows'} of {files} {'file' if files == 1 else 'files'}"
    print(f"{counted} in {' and '.join(map(str, texts))} ({len(texts[asked.output].encode()) / 1e6:.1f} MB)")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visionmark report", allow_abbrev=False, description=__doc__)
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="files that --benchmark-json wrote, the earliest first"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page; default: report.html"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows as a table too, one a measurement")
    return parser
