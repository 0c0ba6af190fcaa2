"""`visionmark run --cluster ADDRESS [PYTEST ARGUMENTS]` gives each case of a run a machine of its own.

All other arguments are pytest's own. Each case is a pytest process on a node of the Ray cluster, which no other case
shares with it; the records are merged into one file of `--benchmark-json`. The cases of a node that dies are run by
others.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT, RESULTS, write_whole
from harness.jobs.crews.address import NoCluster
from harness.jobs.crews.cluster import joined
from harness.jobs.crews.versions import DifferentVersions
from harness.jobs.spawn import JobFailed
from harness.jobs.sweep import CasePiece, CaseResult, sweep_jobs
from harness.measure.bulk.shifts import Piece
from harness.report.merged import merged

FAILED, USAGE_ERROR, NOTHING_RAN = 1, 4, 5
CASES_FILE = "VISIONMARK_CASES_FILE"
# Characters that are special in the names of folders.
_SPECIAL = r"[^\w.-]"


def main(arguments: Sequence[str]) -> int:
    """Run every case on a node of its own and merge the records.

    Returns:
        0; 1 if a case failed or was lost; 4 for a usage error; 5 if nothing was measured.
    """
    parser = argparse.ArgumentParser(prog="visionmark run", allow_abbrev=False, add_help=True, description=__doc__)
    parser.add_argument("--cluster", metavar="HOST:PORT", help="the Ray cluster to run on")
    parser.add_argument("--benchmark-json", type=Path, default=RESULTS / "run.json", help="default: results/run.json")
    parser.add_argument("--output-dir", type=Path, help="as for pytest; each case has a folder in it")
    known, rest = parser.parse_known_args(arguments)
    if known.cluster is None:
        print("visionmark run: give --cluster HOST:PORT; on this machine alone, run pytest", file=sys.stderr)
        return USAGE_ERROR
    if os.environ.get("OUTPUT_DIR"):  # it makes of a run the one case of the FBNet sample
        print("visionmark run: OUTPUT_DIR describes a single case: unset it, and give --output-dir", file=sys.stderr)
        return USAGE_ERROR
    status, found = collect(rest)
    if status:
        return status
    pieces = [
        CasePiece(index, name, (*rest, *_output(known.output_dir, name)), found["variables"])
        for index, name in enumerate(found["cases"])
    ]
    try:
        return sweep(known.cluster, pieces, known.benchmark_json)
    except (NoCluster, DifferentVersions) as error:
        print(f"visionmark run: --cluster {known.cluster}: {error}", file=sys.stderr)
        return USAGE_ERROR


def _output(folder: Path | None, name: str) -> list[str]:
    return [] if folder is None else [f"--output-dir={folder.expanduser().resolve() / re.sub(_SPECIAL, '_', name)}"]


def collect(arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Let pytest collect, and return its exit status and what `fixtures.one_case` writes: the cases and variables."""
    with tempfile.TemporaryDirectory(prefix="visionmark-run-") as folder:
        path = Path(folder) / "cases.json"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments, "--collect-only", "-q", "-p", "fixtures.one_case"],
            cwd=CHECKOUT,
            env={**os.environ, CASES_FILE: str(path), "VISIONMARK_JOURNAL": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return done.returncode, {}
        return 0, json.loads(path.read_text(encoding="utf-8"))


def sweep(address: str, pieces: Sequence[CasePiece], out: Path) -> int:
    """Run the cases on the nodes of a cluster, write the merged file, and return the exit status as in `main`.

    Raises:
        NoCluster: the cluster cannot be used.
        DifferentVersions: its nodes have other versions.
    """
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
    statuses = {one.status for _, one in found.values()}
    if lost or statuses - {0, NOTHING_RAN}:
        return FAILED
    return 0 if 0 in statuses else NOTHING_RAN


def _said(result: CaseResult) -> str:
    """Return how a case ended: the last line that pytest printed, which counts its tests."""
    lines = [line.strip("= ") for line in result.text.splitlines() if line.strip("= ")]
    if result.status < 0:
        return f"ended by signal {-result.status}"
    return lines[-1] if lines else f"exit status {result.status}"
