"""`visionmark run [PYTEST ARGUMENTS]` runs many cases so that none takes another with it.

On this machine the cases of each model and engine share a pytest process, which is watched: a case that crashes, hangs
or runs out of memory is told as that, and another process goes on. With `--cluster ADDRESS` each case is a process on a
node of the Ray cluster, which no other case shares with it; the cases of a node that dies are run by others. The
records are in one file of `--benchmark-json` in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commands.run.collecting import collect
from commands.run.results import unmeasured
from commands.run.supervised import refused, supervise
from harness.files import RESULTS, write_whole
from harness.jobs.crews.address import NoCluster
from harness.jobs.crews.cluster import joined
from harness.jobs.crews.versions import DifferentVersions
from harness.jobs.sweep import CasePiece, CaseResult, sweep_jobs
from harness.measure.bulk.shifts import Piece
from harness.report.merged import merged

FAILED, USAGE_ERROR, NOTHING_RAN = 1, 4, 5
# Characters that are special in the names of folders.
_SPECIAL = r"[^\w.-]"


def main(arguments: Sequence[str]) -> int:
    """Run every case and write one file of the records.

    Returns:
        0; 1 if a case failed, crashed, hung, ran out of memory or was lost; 4 for a usage error; 5 if nothing was
        measured, or nothing of a value that was named; 130 after Ctrl-C and 143 after SIGTERM.
    """
    known, rest = _parser().parse_known_args(arguments)
    if os.environ.get("OUTPUT_DIR"):  # it makes of a run the one case of the FBNet sample
        print("visionmark run: OUTPUT_DIR describes a single case: unset it, and give --output-dir", file=sys.stderr)
        return USAGE_ERROR
    if (reason := refused(known, rest)) is not None:
        print(f"visionmark run: {reason}", file=sys.stderr)
        return USAGE_ERROR
    if known.cluster is None:
        return supervise(known, rest, arguments)
    status, found = collect(rest)
    if status:
        return status
    pieces = [
        CasePiece(index, name, (*rest, *_output(known.output_dir, name)), found["variables"])
        for index, name in enumerate(found["cases"])
    ]
    try:
        return sweep(known.cluster, pieces, known.benchmark_json, found)
    except (NoCluster, DifferentVersions) as error:
        print(f"visionmark run: --cluster {known.cluster}: {error}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="visionmark run", allow_abbrev=False, add_help=True, description=__doc__)
    parser.add_argument("--cluster", metavar="HOST:PORT", help="the Ray cluster to run on; default: this machine")
    parser.add_argument("--benchmark-json", type=Path, default=RESULTS / "run.json", help="default: results/run.json")
    parser.add_argument("--output-dir", type=Path, help="as for pytest; each case, or process, has a folder in it")
    parser.add_argument("--plan", action="store_true", help="say what would run and what not, and measure nothing")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what the journal of the file has as measured and proven"
    )
    parser.add_argument(
        "--case-timeout", type=_seconds, metavar="S",
        help="end a case after so many seconds; default: half an hour, or more where it is asked to measure longer",
    )  # fmt: skip
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} s is no time in which a case could run")
    return value


def _output(folder: Path | None, name: str) -> list[str]:
    return [] if folder is None else [f"--output-dir={folder.expanduser().resolve() / re.sub(_SPECIAL, '_', name)}"]


def sweep(address: str, pieces: Sequence[CasePiece], out: Path, collected: Mapping[str, Any]) -> int:
    """Run the cases on the nodes of a cluster, write the merged file, and return the exit status as in `main`.

    Raises:
        NoCluster: the cluster cannot be used.
        DifferentVersions: its nodes have other versions.
    """
    from harness.jobs.spawn import JobFailed  # loads torch, and who watches cases on this machine needs little memory

    found: dict[int, tuple[str, CaseResult]] = {}
    lost = ""
    with joined(address) as nodes:
        from harness.jobs.crews.hand_out import HandOut
        from harness.jobs.crews.ray_crew import RayCrew

        crew = RayCrew(sweep_jobs(nodes, len(pieces)))

        def keep(piece: Piece, worker: str, result: CaseResult) -> None:
            found[piece.index] = crew.node_of(worker), result
            print(f"[{len(found)}/{len(pieces)}] {piece} on {crew.node_of(worker)}: {_said(result)}", flush=True)
            if result.status:
                print(result.text, flush=True)

        try:
            hand_out = HandOut(crew, lambda text: print(text, flush=True), is_watching=False)
            hand_out.ready()
            hand_out.run(pieces, keep)
        except JobFailed as error:
            lost = str(error)
        finally:
            crew.close()
    documents = [(node, one.document) for _, (node, one) in sorted(found.items()) if one.document is not None]
    for piece in pieces:
        if piece.index not in found:
            print(f"NOT MEASURED: {piece}: {lost}", file=sys.stderr)
    if documents:
        write_whole(out, json.dumps(merged(documents), indent=1) + "\n")
        print(f"{sum(len(one['benchmarks']) for _, one in documents)} rows of {len(documents)} cases are in {out}")
    results = {piece.name: found[piece.index][1] for piece in pieces if piece.index in found}
    if lost or {one.status for one in results.values()} - {0, NOTHING_RAN}:
        return FAILED
    missing = unmeasured(
        collected,
        {test["name"]: test["parts"] or {} for test in collected["tests"]},
        [name for name, one in results.items() if one.status == 0],
        {name: _said(one) for name, one in results.items()},
    )
    for line in missing:
        print(f"NOT MEASURED: {line}", file=sys.stderr)
    return NOTHING_RAN if missing else 0


def _said(result: CaseResult) -> str:
    """Return how a case ended: the last line that pytest printed, which counts its tests."""
    lines = [line.strip("= ") for line in result.text.splitlines() if line.strip("= ")]
    if result.status < 0:
        return f"ended by signal {-result.status}"
    return lines[-1] if lines else f"exit status {result.status}"
