"""The files and the table of a supervised run, made of its journal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.cells import NEEDS_MORE, percentile, rate
from harness.files import write_whole
from harness.report.journal import read_entries
from harness.report.outcomes import MEASURED, SKIPPED, UNFINISHED, UNSUPPORTED, WELL
from harness.report.plan import PlannedCase
from harness.report.record_rows import rows_of
from harness.report.remarks import remarks
from harness.report.supervised import CaseState, case_states, supervised_json

FAILED_STATUS, NOTHING_RAN = 1, 5
TABLE_WIDTH = 160


def states_of(journal: Path, planned: Sequence[PlannedCase], identity: str) -> list[CaseState]:
    """Return the state of each case of a plan: of this run, or of an earlier one that measured it as the same."""
    found = case_states(read_entries(journal))
    states = []
    for case in planned:
        kept = found.get(case.name)
        if case.state is not None:
            states.append(case.state)
        elif kept is not None and (kept.is_of_last_run or kept.identity == identity):
            states.append(kept)
        else:
            states.append(CaseState(case.name, UNFINISHED, "not begun: the run was stopped before it"))
    return states


def write_results(
    out: Path, journal: Path, states: Sequence[CaseState], planned: Sequence[PlannedCase], facts: Mapping[str, Any]
) -> None:
    """Write the one file of a run, in the form of `--benchmark-json`.

    Raises:
        OSError: it cannot be written.
    """
    runs = [entry for entry in read_entries(journal) if "run" in entry]
    parts = {case.name: dict(case.parts) for case in planned}
    last = runs[-1] if runs else {"run": None, "schema": None}
    document = supervised_json(states, last["run"], {**facts, "journal": str(journal)}, last["schema"])
    for outcome in document["visionmark"]["outcomes"]:
        outcome.update(parts[outcome["case"]])
    write_whole(out, json.dumps(document, indent=1) + "\n")


def render(states: Sequence[CaseState], width: int = TABLE_WIDTH) -> str:
    """Return the table of a run: the cases that were measured, those that failed with the reason, and why others not.

    Args:
        states: the cases.
        width: the characters of a line.
    """
    console = Console(width=width, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("case", "outcome", "p50 ms", "p99 ms", "images/s", "SQNR dB", "remarks, or why not"):
        is_number = heading not in ("case", "outcome", "remarks, or why not")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    rows = {row["case"]: row for row in rows_of(record for state in states for record, _ in state.rows)}
    numbers = []
    shown = [state for state in states if state.outcome not in (UNSUPPORTED, SKIPPED)]
    for state in shown:
        row = rows.get(state.case, {})
        parity = row.get("parity", {}).get("sqnr_db")
        cells = (percentile(row, "p50"), percentile(row, "p99"), rate(row), "" if parity is None else f"{parity:.1f}")
        told = state.reason or ", ".join(remarks(row))
        numbers.append(cells)
        words = map(Text, (state.case, state.outcome, *cells, told))  # what an error says may look like markup
        table.add_row(*words, style=None if state.outcome == MEASURED else "bold red")
    with console.capture() as capture:
        if shown:
            console.print(table)
        if any(cell.startswith(("n<", "w<")) for cells in numbers for cell in cells):
            console.print(f"{NEEDS_MORE}; --min-test-duration gives them time.")
        left_out = Counter((state.outcome, state.reason) for state in states if state.outcome in (UNSUPPORTED, SKIPPED))
        for (outcome, reason), count in left_out.most_common():
            console.print(f"{outcome} {count}: {reason}", markup=False, soft_wrap=True)
        counts = Counter(state.outcome for state in states)
        console.print(f"{len(states)} cases: {', '.join(f'{count} {word}' for word, count in counts.most_common())}")
    return capture.get().rstrip()


def exit_status(
    states: Sequence[CaseState], planned: Sequence[PlannedCase], found: Mapping[str, Any]
) -> tuple[int, list[str]]:
    """Return the exit status as pytest's would be, and what of that which was named was not measured.

    Args:
        states: what came of the cases.
        planned: the cases in the same order.
        found: what `collecting.collect` returns.

    Returns:
        0; 1 if a case failed in any way; 5 if nothing was measured, or nothing of a value that was named.
    """
    if any(state.outcome not in WELL for state in states):
        return FAILED_STATUS, []
    parts = {case.name: case.parts for case in planned}
    measured = {state.case for state in states if state.outcome == MEASURED}
    missing = unmeasured(found, parts, measured, {state.case: state.reason for state in states})
    return (NOTHING_RAN if missing else 0), missing


def unmeasured(
    found: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Any]],
    measured: Collection[str],
    reasons: Mapping[str, str],
) -> list[str]:
    """Return what of that which was named was not measured, with the reasons; empty with `--allow-skips`.

    Args:
        found: what `collecting.collect` returns.
        parts: the parts of each case.
        measured: the cases that were measured.
        reasons: why others were not.
    """
    missing: list[str] = []
    for axis, values in found["named"].items():
        for value in values:
            of_value = [name for name in parts if str(parts[name].get(axis)) == value]
            if of_value and not set(measured) & set(of_value):
                told = dict.fromkeys(reasons[name] for name in of_value if reasons.get(name))
                missing.append(f"{axis} {value}: {'; '.join(list(told)[:4])}; drop it, or add --allow-skips")
    if found["allows_skips"]:
        return []
    if not measured:
        return missing or ["no case was measured; add --allow-skips where that is as it should be"]
    return missing
