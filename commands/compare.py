"""`visionmark compare A.json B.json`: whether the second run is faster, slower or the same, row by row.

Each side is one file of `--benchmark-json`, or several joined by commas: runs of one machine differ by more than what
happens within a run, and only several of them show by how much.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.report.comparison import KINDS, Pair, UnreadableRun, compare_runs, read_run

WORSE, USAGE_ERROR, NOT_COMPARED = 1, 4, 5
DEFAULT_BOUND_PCT = 3.0
HEADINGS = ("case", "measurement", "first", "second", "time ratio", "95% interval", "verdict", "remarks")
TABLE_WIDTH = 200


def main(arguments: Sequence[str]) -> int:
    """Compare two sides and print the table.

    Returns:
        The exit status: 0; 1 if a row is slower or less right; 4 if a file cannot be read; 5 if a row was not compared,
        because the pair was refused or only the first side has it, or if there was nothing to compare.
    """
    asked = _parser().parse_args(arguments)
    try:
        first, second = ([read_run(Path(name)) for name in side.split(",")] for side in (asked.first, asked.second))
    except UnreadableRun as error:
        print(f"visionmark compare: {error}", file=sys.stderr)
        return USAGE_ERROR
    pairs, alone = compare_runs(first, second, bound_pct=asked.bound, across=asked.across)
    is_gone = [key for key in alone if any(key in run.rows for run in first)]
    notes = [f"only the first side has {' '.join(key).strip()}" for key in is_gone]
    notes += [f"only the second side has {' '.join(key).strip()}" for key in alone if key not in is_gone]
    if not pairs:
        notes.append("no row is on both sides: nothing was compared")
    if len(first) == 1 or len(second) == 1:
        notes.append(
            "one run a side: how much two runs of this machine differ is not in these intervals; several files a side, "
            "joined by commas, show it"
        )
    legend = f"time ratio: second over first, below 1 is faster; same: within {asked.bound:g}%; accuracy: points won"
    _print(pairs, [legend, *notes])
    if asked.markdown:
        _append(asked.markdown, markdown(pairs, [legend, *notes]))
    if asked.json:
        content = {"bound_pct": asked.bound, "pairs": [asdict(pair) for pair in pairs], "notes": notes}
        asked.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if any(pair.is_worse for pair in pairs):
        return WORSE
    return NOT_COMPARED if is_gone or not pairs or any(pair.refused for pair in pairs) else 0


def cells(pair: Pair) -> tuple[str, ...]:
    """Return the cells of a pair's row, in the order of `HEADINGS`."""
    ratio = pair.ratio
    value = interval = ""
    if ratio is not None and ratio.value is not None and ratio.low is not None and ratio.high is not None:
        form = "{:+.2f}" if pair.measurement == "accuracy" else "{:.3f}"
        value, interval = form.format(ratio.value), f"{form.format(ratio.low)} to {form.format(ratio.high)}"
    verdict = (
        f"refused: {pair.refused}" if ratio is None else f"{ratio.verdict}{': ' if ratio.reason else ''}{ratio.reason}"
    )
    return pair.case, pair.measurement, pair.first, pair.second, value, interval, verdict, "; ".join(pair.remarks)


def markdown(pairs: Sequence[Pair], notes: Sequence[str]) -> str:
    """Return the table and its notes as GitHub's Markdown, as for a pull request or a job's summary."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells(pair)) + " |" for pair in pairs]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes), ""])


def _print(pairs: Sequence[Pair], notes: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [cells(pair) for pair in pairs]
    filled = [index for index in range(len(HEADINGS)) if index < 2 or any(row[index] for row in shown)]
    for index in filled:
        table.add_column(HEADINGS[index], no_wrap=index < 6, justify="right" if 2 <= index < 6 else "left")
    for pair, row in zip(pairs, shown, strict=True):
        table.add_row(*(row[index] for index in filled), style="bold red" if pair.is_worse else None)
    # a terminal wraps at its own width; a file or a pipe gets lines that are never cut
    console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    if pairs:
        console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def _append(path: Path, text: str) -> None:
    """Append, because the summary of a job is a file that every step appends to."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visionmark compare", allow_abbrev=False, description=__doc__)
    parser.add_argument("first", metavar="A.json", help="the run that is compared with; several joined by commas")
    parser.add_argument("second", metavar="B.json", help="the run that is judged; several joined by commas")
    parser.add_argument(
        "--bound", type=_percent, default=DEFAULT_BOUND_PCT, metavar="3%", help="what counts as the same"
    )
    parser.add_argument(
        "--across", type=_kinds, default=(), metavar="KINDS", help=f"what may differ: {', '.join(KINDS)}, by commas"
    )
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=Path(summary or "compare.md"), metavar="FILE",
        help="append the table as Markdown to FILE, else to $GITHUB_STEP_SUMMARY, else to compare.md",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every pair with its numbers")
    return parser


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage, such as 3%") from None
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 100%")
    return value


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(KINDS)}")
    return kinds
