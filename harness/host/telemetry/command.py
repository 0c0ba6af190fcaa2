"""The telemetry collector as a command: `python -m harness.telemetry --socket PATH --output DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness.host.parent_death import die_with_starter
from harness.host.telemetry.collector import serve
from harness.host.telemetry.rapl import DOMAINS, PACKAGES


def main(given: Sequence[str] | None = None) -> None:
    """Read the given arguments, or those of the process if none are given, and run the collector."""
    parser = argparse.ArgumentParser(prog="python -m harness.telemetry", description=__doc__)
    parser.add_argument("--socket", type=Path, help="where commands come from; without one, sample from now on")
    parser.add_argument("--output", type=Path, required=True, help="folder for telemetry_N.csv and sources.json")
    parser.add_argument("--interval", type=float, default=0.2, help="seconds between two samples (0.2)")
    parser.add_argument("--starter", type=int, help="end with the process of this id, which has to be the parent")
    parser.add_argument("--rapl", choices=DOMAINS, default=PACKAGES, help="energy of processors, or of the whole board")
    arguments = parser.parse_args(given)
    if arguments.interval <= 0:
        parser.error("--interval has to be more than 0")
    if arguments.starter is not None:
        die_with_starter(arguments.starter)
    serve(arguments.socket, arguments.output, arguments.interval, arguments.rapl)
