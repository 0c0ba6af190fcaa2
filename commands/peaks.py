"""`visionmark peaks` measures what this machine can do at most in each number format, prints it, and keeps it.

Rows that are measured afterwards, on the same device with the same threads, then say which share of that they reach.
Let nothing else run meanwhile: a peak that was disturbed is too low, and rows come out too high.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.artefacts import default_folder
from harness.cases import PRECISIONS
from harness.devices import Device, device_names, open_device
from harness.engines import engine_names
from harness.files import write_whole
from harness.host.cores import allot, parse_cores, take, threads_in
from harness.measure.peaks.kept import PRECISION_OF, Peaks, identity_of, keep_peaks, kept_peaks
from harness.measure.peaks.measuring import ENGINES, measure_peaks

FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Measure the peaks that are not kept yet, print all, and keep them.

    Returns:
        0; 1 if no peak at all could be measured. A wrong command line ends the process with 2.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        given = asked.threads or os.environ.get("OMP_NUM_THREADS", "")
        cores = None if asked.cores is None else parse_cores(asked.cores)
        take(allot(threads=threads_in(given, "--threads"), cores=cores))
        devices = [open_device(name) for name in asked.device.split(",")] if asked.device else _present()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for device in devices:
        if reason := device.available():
            parser.error(f"--device {device.name}: {reason}")
    folder = (asked.cache_dir or default_folder()).expanduser().resolve()
    found = [_peaks_of(device, asked, folder) for device in devices]
    if asked.json is not None:
        write_whole(asked.json, json.dumps([asdict(peaks) for peaks in found], indent=1) + "\n")
    return 0 if all(peaks.peaks for peaks in found) else FAILED


def _peaks_of(device: Device, asked: argparse.Namespace, folder: Path) -> Peaks:
    """Measure what is not kept of one device, keep it, and print it."""
    identity = identity_of(device)
    kept = None if asked.again else kept_peaks(folder, identity)
    wanted = asked.precision or list(PRECISION_OF.values())
    missing = [name for name in wanted if kept is None or not kept.has(PRECISIONS[name].work)]
    missing = [name for name in missing if asked.precision or device.supports(name) is None]
    peaks = kept or Peaks(identity)
    for names in [[name] for name in missing] or ([] if peaks.has_copies else [[]]):
        peaks = measure_peaks(device, names, asked.engine, peaks, _tell)
        _tell(f"kept in {keep_peaks(folder, peaks)}")  # after each format: a command that is ended loses one alone
    print(render_peaks(peaks))
    return peaks


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def render_peaks(peaks: Peaks) -> str:
    """Return the peaks and the rates of copying as a table, and below it what counts for nothing, with the reasons."""
    about = peaks.identity
    threads = f", {about['threads']} threads" if "threads" in about else ""
    title = f"{about['device']} ({about['description']['name']}{threads}), torch {about['torch']}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for heading in ("format", "Tflop/s", "median", "spread", "rounds", "warm", "engine", "what ran", "of its time"):
        is_number = heading in ("Tflop/s", "median", "spread", "rounds")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for peak in peaks.peaks.values():
        share = peak.evidence["dtype_share_pct"].get(peak.format, 0.0)
        table.add_row(
            *(peak.format, f"{peak.tflops:.4g}", f"{peak.median_tflops:.4g}", f"{peak.spread_pct:.0f}%"),
            *(str(peak.rounds), "yes" if peak.warmup_steady else "no", peak.engine, peak.probe),
            f"{share:.0f}% {peak.format}",
        )
    console = Console(width=150, force_terminal=False, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines = [capture.get().rstrip()]
    for one in peaks.copies:
        told = ", while others had the machine: measure it again" if one.is_disturbed else ""
        lines.append(f"copying with {one.footprint_mib:g} MiB in use: {one.gb_per_second:.1f} GB/s{told}")
    lines += [f"{denial}: measure it again" for one in peaks.peaks.values() if (denial := one.denial())]
    reasons = dict.fromkeys(
        f"{one['precision']} on {one['engine']}: {one['reason']}" for one in peaks.tried if one["reason"]
    )
    return "\n".join([*lines, *reasons])


def _present() -> list[Device]:
    """Return every device that is there; the host is."""
    return [device for name in device_names() if (device := open_device(name)).available() is None]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visionmark peaks", allow_abbrev=False, description=__doc__)
    parser.add_argument(
        "--device", metavar="NAMES", help="cpu, cuda, cuda:1, xpu, by commas; default: all that is there"
    )
    parser.add_argument(
        "--precision", type=_names(tuple(PRECISIONS), "precision"), metavar="NAMES", help="by commas; default: all"
    )
    parser.add_argument(
        "--engine", type=_names(engine_names(), "engine"), default=ENGINES, metavar="NAMES",
        help=f"the engines to try, by commas; default: {','.join(ENGINES)}",
    )  # fmt: skip
    parser.add_argument("--threads", metavar="N", help="as for pytest: a peak is of one number of threads")
    parser.add_argument("--cores", metavar="LIST", help="as for pytest: the logical CPUs to run on")
    parser.add_argument("--again", action="store_true", help="measure what is kept anew")
    parser.add_argument("--cache-dir", type=Path, metavar="DIR", help="where they are kept; default: the user's cache")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write them, with all that was tried")
    return parser


def _names(known: tuple[str, ...], what: str) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        found = text.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is no {what}; there are {', '.join(known)}")
        return found

    return read
