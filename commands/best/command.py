"""`make best` measures every engine and precision of a model with pytest, ranks and draws them, and keeps the best.

The command is `visionmark best --model NAME [PYTEST ARGUMENTS]`. Each engine is measured by a pytest process of its
own: one that crashes takes no other with it, and the memory of one is not counted for the next. All numbers come from
the records that those runs keep; nothing is measured here.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from commands.best.runs import STOPPED, USAGE_ERROR, Asked, Measured, measure
from commands.best.table import TABLE_WIDTH, render_best, render_missing
from harness.engines import engine_names
from harness.report.choice import OBJECTIVES, Eligibility, fastest, judge, tied
from harness.report.journal import joined
from harness.report.kept_choice import DEFAULT_CHOICES, IDENTITY, Choice, choice_path, conditions_of, keep
from harness.report.pareto_svg import draw
from harness.report.record_rows import Record, case_of_row, rows_of

# What a run writes: the JSON and the journal of each process, the table and the picture. All else is another's.
_OURS = re.compile(rf"(?:{'|'.join(engine_names())})(?:-\d+)?\.jsonl?|table\.txt|picture\.svg")


def read_asked(arguments: Sequence[str]) -> list[Asked]:
    """Parse the arguments and return what to measure, one entry per model."""
    parser = argparse.ArgumentParser(prog="make best", allow_abbrev=False, description=__doc__)
    parser.add_argument("--model", required=True, help="names, comma-separated: make best MODEL=fbnetc_100")
    parser.add_argument("--engine", default="all", help="default: all")
    parser.add_argument("--precision", default="all", help="default: all")
    parser.add_argument("--choices", type=Path, default=DEFAULT_CHOICES, help="default: results/best")
    parser.add_argument("-k", dest="keyword", help="as for pytest")
    known, rest = parser.parse_known_args(arguments)
    choices = known.choices.expanduser().resolve()
    engines = engine_names() if known.engine == "all" else tuple(known.engine.split(","))
    for engine in engines:
        if engine not in engine_names():
            parser.error(f"--engine {engine} is none of {', '.join(engine_names())}, all")
    return [
        Asked(model, engines, known.precision, known.keyword, tuple(rest), choices, folder_of(choices, model))
        for model in known.model.split(",")
    ]


def folder_of(choices: Path, model: str) -> Path:
    """Return the folder of a model's table, picture and records among the kept choices."""
    return choices / model.replace(":", "_").replace("/", "_")


def main(arguments: Sequence[str]) -> int:
    """Measure, rank and draw every model that is asked for, and keep the best.

    Returns:
        The exit status: 0; 1 if a case failed by accident or no row passes its gate; 4 for a usage error; 130 if
        interrupted; 143 if stopped by SIGTERM.
    """
    worst = 0
    for asked in read_asked(arguments):
        worst = max(worst, best_of(asked))
        if worst in (USAGE_ERROR, *STOPPED):  # a wrong command line or a wish to stop concerns all models
            break
    return worst


def best_of(asked: Asked) -> int:
    """Measure every engine of one model, rank them, and return the exit status as in `main`.

    All is written into a new folder. In the end its files replace those of the last time. Where the run is interrupted
    they are kept beside them, in a folder of their own, and where pytest refuses the command line there are none.
    """
    asked.choices.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{asked.folder.name}.", suffix=".part", dir=asked.choices))
    status = _best_in(part, asked)
    if status == USAGE_ERROR:
        shutil.rmtree(part)
        return status
    place = asked.folder if status not in STOPPED else asked.folder.with_name(f"{asked.folder.name}-interrupted")
    place.mkdir(exist_ok=True)
    names = {new.name for new in part.iterdir()}
    for name in names:
        (part / name).replace(place / name)
    for old in list(place.iterdir()):
        if _OURS.fullmatch(old.name) and old.name not in names:
            old.unlink()
    part.rmdir()
    print(f"\nthe table, the picture and every number are in {place}")
    return status


def _best_in(folder: Path, asked: Asked) -> int:
    """Measure into this folder and write the table, the picture and, unless interrupted, the choices."""
    asked = replace(asked, folder=folder)
    measured: list[Measured] = []
    for number, engine in enumerate(asked.engines, start=1):
        print(f"\n{asked.model}: engine {number} of {len(asked.engines)}: {engine}", flush=True)
        measured.append(measure(asked, engine))
        if measured[-1].code == USAGE_ERROR:  # every engine would fail; pytest has said why
            return USAGE_ERROR
        if measured[-1].code in STOPPED:
            break
    last = measured[-1].code
    status = report(asked, measured, is_final=last not in STOPPED)
    return last if last in STOPPED else status


def report(asked: Asked, measured: Sequence[Measured], *, is_final: bool) -> int:
    """Write the table, the picture and, unless the run was cut short, the choices; return the exit status."""
    journals = [journal for one in measured for journal in one.journals]
    records, missing = joined(journals)
    rows = rows_of(records)
    groups = [list(group) for _, group in groupby(sorted(rows, key=_group), key=_group)]
    eligible = {row["case"]: judge(row, rows, allow_undecided="--allow-undecided" in asked.rest) for row in rows}
    text = render_best(groups, eligible, is_colour=False)
    gone = render_missing(missing)
    (asked.folder / "table.txt").write_text(f"{text}\n{gone}\n", encoding="utf-8")
    is_terminal = sys.stdout.isatty()
    width = min(TABLE_WIDTH, shutil.get_terminal_size().columns) if is_terminal else TABLE_WIDTH
    print(f"\n{render_best(groups, eligible, is_terminal, width)}\n{gone}", flush=True)
    if groups:
        draw(asked.folder / "picture.svg", groups, eligible)
    if not is_final:
        print("interrupted: nothing is chosen")
        return 1
    ours = {record["case"] for one in measured if one.is_ours for journal in one.journals for record in journal.records}
    environments = [journal.environment for one in measured if one.is_ours for journal in one.journals]
    environment = next((one for one in environments if one is not None), None)
    accidents = [one.case for one in missing if one.is_accident]
    kept = [
        _keep(asked, [row for row in group if row["case"] in ours], eligible, environment, accidents)
        for group in groups
        if environment is not None
    ]
    if not groups:
        print("no case gave a row: nothing is chosen")
    if accidents:
        print(f"{len(accidents)} cases failed by accident and did not compete: {', '.join(accidents)}")
    return 0 if kept and all(kept) and not accidents else 1


def _keep(
    asked: Asked,
    rows: Sequence[Record],
    eligible: dict[str, Eligibility],
    environment: dict[str, Any],
    accidents: Sequence[str],
) -> bool:
    """Keep the choice of one group, and return whether there is one.

    A kept choice that no row deserves any more is dropped.
    """
    if not rows:
        return False
    of = rows[0]
    path = choice_path(
        *(asked.choices, of["model"], of["device"], of["batch"], of["identity"]["weights"]),
        environment["libraries"]["torch"],
    )
    chosen = {aim: row for aim in OBJECTIVES if (row := fastest(rows, eligible, aim)) is not None}
    if not chosen:
        with suppress(FileNotFoundError):
            path.unlink()
        print(f"{of['model']} batch {of['batch']}: no row passes its gate, nothing is chosen")
        return False
    numbers = {aim: OBJECTIVES[aim].of(row) or 0.0 for aim, row in chosen.items()}
    conditions = {**conditions_of(environment, of["device"]), IDENTITY: of["identity"]}
    keep(path, Choice({aim: case_of_row(row) for aim, row in chosen.items()}, numbers, conditions, tuple(accidents)))
    print(f"kept for --engine best, in {path}:")
    for aim, row in chosen.items():
        ties = ", ".join(other["case"] for other in tied(rows, eligible, aim))
        told = f"; a tie with {ties}" if ties else ""
        print(f"  {aim}: {row['case']} ({OBJECTIVES[aim].field} {numbers[aim]:.4g}{told})")
    return True


def _group(row: Record) -> tuple[Any, ...]:
    return row["model"], row["device"], row["batch"]
