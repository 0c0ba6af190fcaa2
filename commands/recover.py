"""The subcommand `visionmark recover [JOURNAL]`: the numbers of a run that was killed, as a file of JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import RESULTS, write_whole
from harness.report.journal import read_entries, read_runs
from harness.report.outcomes import MEASURED
from harness.report.recovered import ended_in, recovered_json
from harness.report.supervised import case_states, is_supervised, supervised_json

OK, NOTHING, USAGE_ERROR = 0, 1, 2


def main(arguments: Sequence[str]) -> int:
    """Write the rows of the last run of a journal into a new file, or those of all processes of a supervised run.

    Returns:
        The exit status: 0; 1 if the run has no row, so that no file is written; 2 for a usage error.
    """
    asked = _parser().parse_args(list(arguments))
    journal: Path = asked.journal
    output: Path = asked.output or journal.with_suffix(".json")
    try:
        if not journal.is_file():
            raise ValueError(f"{journal}: no such file; give a journal, such as {RESULTS / 'journal.jsonl'}")
        if output.exists():
            raise ValueError(f"{output} is there already; give another file with --output")
        if is_supervised(read_entries(journal)):
            return _recover_supervised(journal, output)
        runs = read_runs(journal)
    except (OSError, ValueError) as error:
        print(f"visionmark recover: {error}", file=sys.stderr)
        return USAGE_ERROR
    if not runs or not runs[-1].records:
        print(f"{journal}: its last run has no row, and no file is written", file=sys.stderr)
        return NOTHING
    last = runs[-1]
    try:
        write_whole(output, json.dumps(recovered_json(last, str(journal.resolve())), indent=1) + "\n")
    except OSError as error:
        print(f"visionmark recover: {output}: {error.strerror}; give another file with --output", file=sys.stderr)
        return USAGE_ERROR
    cases = len({record["case"] for record in last.records})
    print(f"{len(last.records)} rows of {cases} of {len(set(last.opened))} cases that were begun are in {output}")
    if (case := ended_in(last)) is not None:
        has_some = any(record["case"] == case for record in last.records)
        print(f"the run ended in {case}, which has {'not all of its numbers' if has_some else 'no number'}")
    for gone in last.missing:
        print(f"{gone.outcome}: {gone.case}: {gone.reason}")
    if len(runs) > 1:
        print(f"{len(runs) - 1} earlier runs in {journal.name} are left out: a file is of one run")
    return OK


def _recover_supervised(journal: Path, output: Path) -> int:
    """Write the rows of all processes of a run of `visionmark run`, which has one journal for them."""
    entries = read_entries(journal)
    states = list(case_states(entries).values())
    last: dict[str, Any] = next((entry for entry in reversed(entries) if "run" in entry), {})
    rows = sum(len(state.rows) for state in states)
    if not rows:
        print(f"{journal}: its run has no row, and no file is written", file=sys.stderr)
        return NOTHING
    facts = {"command": last.get("command", []), "journal": str(journal.resolve())}
    document = supervised_json(states, last.get("run"), facts, last.get("schema"))
    write_whole(output, json.dumps(document, indent=1) + "\n")
    print(f"{rows} rows of {len(states)} cases that were begun are in {output}; visionmark run --resume goes on")
    for state in states:
        if state.outcome != MEASURED:
            print(f"{state.outcome}: {state.case}: {state.reason}")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("visionmark recover", description=__doc__)
    parser.add_argument(
        "journal",
        nargs="?",
        type=Path,
        default=RESULTS / "journal.jsonl",
        help="the journal of the run; default: results/journal.jsonl",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the file to write; default: that of the journal, with .json"
    )
    return parser
