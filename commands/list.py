"""`visionmark list`: which models run on which engines in which precisions here, and why the others do not.

The reasons are those with which pytest skips a case. Nothing is built or measured.
"""

from __future__ import annotations

import argparse
import json
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

from rich.console import Console
from rich.table import Table

from harness.cases import PRECISIONS, Case
from harness.devices import device_names, open_device
from harness.engines import engine_names
from harness.proof.gaps import cannot_run, declared_gap
from models.catalog import ModelSpec, UnknownModel, find_spec, load_catalog
from models.other_names import OTHER_NAMES

ALL = "all"
OK, USAGE_ERROR = 0, 4
TABLE_WIDTH = 160
# No batch size changes whether a case runs.
BATCH = 1


@dataclass(frozen=True)
class MatrixCell:
    """One cell of the matrix.

    Attributes:
        model: the model.
        device: the device.
        engine: the engine.
        precision: the precision.
        runs: whether it is measured.
        kind: `unsupported`, or the kind of a declared gap: `never`, `notyet` or `notimpl`; empty if it runs. The last
            two are tried nevertheless, and fail the run once they work.
        reason: why it does not run; empty if it does.
    """

    model: str
    device: str
    engine: str
    precision: str
    runs: bool
    kind: str
    reason: str


class NotHere(ValueError):
    """What was asked for is unknown or not here; the message gives the way out."""


def main(arguments: Sequence[str]) -> int:
    """Print the matrix, and the reason of every cell that does not run.

    Returns:
        The exit status: 0; 4 if something that is named is unknown or absent.
    """
    asked = _parser().parse_args(arguments)
    try:
        specs = _specs(asked.model)
        devices = _devices(asked.device)
        engines = _among("--engine", asked.engine, engine_names())
        precisions = _among("--precision", asked.precision, tuple(PRECISIONS))
    except NotHere as error:
        print(f"visionmark list: {error}", file=sys.stderr)
        return USAGE_ERROR
    cells = list(cells_of(specs, devices, engines, precisions))
    if asked.json:
        print(json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=1))
    else:
        print(render(cells, None if sys.stdout.isatty() else TABLE_WIDTH))
    return OK


def cells_of(
    specs: Mapping[str, ModelSpec], devices: Sequence[str], engines: Sequence[str], precisions: Sequence[str]
) -> Iterator[MatrixCell]:
    """Yield every cell of a matrix, the model outermost and the precision innermost."""
    opened = {name: open_device(name) for name in devices}
    for (name, spec), device, engine, precision in product(specs.items(), devices, engines, precisions):
        case = Case(name, device, precision, BATCH, engine)
        reason = cannot_run(case, spec, opened[device])
        if reason is not None:
            yield MatrixCell(name, device, engine, precision, False, "unsupported", reason)
            continue
        gap = declared_gap(case, spec)
        kind, why = ("", "") if gap is None else (gap.kind, gap.reason)
        yield MatrixCell(name, device, engine, precision, gap is None, kind, why)


def render(cells: Sequence[MatrixCell], width: int | None = TABLE_WIDTH) -> str:
    """Return the matrix as text: a line for each engine, for all models of which the same is true.

    Args:
        cells: the cells, in the order of `cells_of`.
        width: the characters of a line, None for those of the terminal.
    """
    marks: dict[str, str] = {}
    for cell in cells:
        if not cell.runs:
            marks.setdefault(_told(cell), _letters(len(marks)))
    of_model: dict[str, list[tuple[str, ...]]] = {}
    precisions = list(dict.fromkeys(cell.precision for cell in cells))
    for first in range(0, len(cells), len(precisions)):
        line = cells[first : first + len(precisions)]
        shown = ("yes" if cell.runs else marks[_told(cell)] for cell in line)
        of_model.setdefault(line[0].model, []).append((line[0].device, line[0].engine, *shown))
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for model, lines in of_model.items():
        alike.setdefault(tuple(lines), []).append(model)
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        for lines_alike, models in alike.items():
            table = Table(box=None, pad_edge=False, header_style="bold")
            for heading in ("device", "engine", *precisions):
                table.add_column(heading)
            for cells_of_line in lines_alike:
                table.add_row(*cells_of_line)
            console.print(
                f"{len(models)} models: {', '.join(models)}" if len(models) > 1 else models[0],
                style="bold",
                markup=False,
            )
            console.print(table)
        for reason, mark in marks.items():
            count = sum(not cell.runs and _told(cell) == reason for cell in cells)
            console.print(f"{mark} ({count}): {reason}", markup=False, soft_wrap=True)
        console.print(f"{sum(cell.runs for cell in cells)} of {len(cells)} run")
    return capture.get().rstrip()


def _told(cell: MatrixCell) -> str:
    return cell.reason if cell.kind == "unsupported" else f"{cell.kind}: {cell.reason}"


def _letters(number: int) -> str:
    """Return a, b, …, z, aa, ab, …."""
    first, last = divmod(number, len(string.ascii_lowercase))
    return (_letters(first - 1) if first else "") + string.ascii_lowercase[last]


def _specs(text: str) -> dict[str, ModelSpec]:
    catalog = load_catalog()
    names = list(catalog) if text == ALL else [OTHER_NAMES.get(name, name) for name in text.split(",")]
    try:
        return {name: find_spec(name, catalog) for name in names}
    except UnknownModel as error:
        raise NotHere(f"--model: {error}") from None


def _devices(text: str | None) -> tuple[str, ...]:
    present = tuple(kind for kind in device_names() if open_device(kind).available() is None)
    if text is None:
        return tuple(kind for kind in present if kind != "cpu") or ("cpu",)
    if text == ALL:
        return present
    for name in text.split(","):
        try:
            reason = open_device(name).available()
        except ValueError as error:
            raise NotHere(f"--device: {error}") from None
        if reason is not None:
            raise NotHere(f"no {name} device ({reason}); drop --device {name}; present: {', '.join(present)}")
    return tuple(text.split(","))


def _among(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == ALL:
        return known
    for name in text.split(","):
        if name not in known:
            raise NotHere(f"{option} {name!r} is none of {', '.join(known)}, {ALL}")
    return tuple(text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visionmark list", allow_abbrev=False, description=__doc__)
    parser.add_argument("--model", default=ALL, help="names, by commas; default: all of the catalogue", metavar="NAME")
    parser.add_argument("--engine", default=ALL, help="names, by commas; default: all", metavar="NAME")
    parser.add_argument("--precision", default=ALL, help="names, by commas; default: all", metavar="NAME")
    parser.add_argument(
        "--device", help="names, by commas, or all; default: the accelerators here, else cpu", metavar="NAME"
    )
    parser.add_argument("--json", action="store_true", help="print every cell as JSON")
    return parser
