"""A sweep over machines: each case of a run is a pytest process on a machine that it has to itself."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT
from harness.jobs.crews.cluster import ClusterNode
from harness.jobs.crews.crew import PieceJob
from harness.jobs.pytest_child import pytest_command
from harness.progress import ReportPhase

# Read by the plugin `fixtures.one_case`: the cases whose tests alone are to run, a line each.
CASE_VARIABLE = "VISIONMARK_CASE"


@dataclass(frozen=True)
class CasePiece:
    """One case of a sweep. See `Piece`.

    Attributes:
        index: the position of the case in the sweep, from 0.
        name: the case's id.
        arguments: pytest's arguments.
        variables: the environment variables from which options are read.
        size: 1.
    """

    index: int
    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    size: int = 1

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class CaseResult:
    """What came of a case.

    Attributes:
        status: pytest's exit status; negative where a signal ended it.
        text: what it printed.
        document: the file of pytest-benchmark, None if it wrote none.
    """

    status: int
    text: str
    document: dict[str, Any] | None


@dataclass(frozen=True)
class SweepJob:
    """A machine that runs one case after the other. See `PieceJob`."""

    def prepare(self, report: ReportPhase) -> ReadySweep:
        """See `PieceJob.prepare`."""
        return ReadySweep()


@dataclass(frozen=True)
class ReadySweep:
    """A machine that is ready to run cases. See `ReadyWorker`."""

    facts: dict[str, Any] = field(default_factory=lambda: {"where": f"process {os.getpid()}"})

    def warm(self) -> None:
        """See `ReadyWorker.warm`. Every case warms up by itself."""

    def expect(self, piece: CasePiece) -> None:
        """See `ReadyWorker.expect`. Nothing is begun before its time."""

    def work(self, piece: CasePiece) -> CaseResult:
        """See `ReadyWorker.work`. The piece is a case."""
        with tempfile.TemporaryDirectory(prefix="visionmark-case-") as folder:
            out = Path(folder) / "out.json"
            words = (*piece.arguments, "-p", "fixtures.one_case", "-p", "no:cacheprovider", f"--benchmark-json={out}")
            done = subprocess.run(
                pytest_command(words),
                cwd=CHECKOUT,
                env={**os.environ, **piece.variables, CASE_VARIABLE: piece.name, "VISIONMARK_JOURNAL": "off"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="surrogateescape",
                check=False,
            )
            try:
                document = json.loads(out.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # nothing was measured: the text says why
                document = None
        return CaseResult(done.returncode, done.stdout, document)

    def finish(self) -> None:
        """See `ReadyWorker.finish`. There is nothing to check: each case has proven itself."""

    def close(self) -> None:
        """See `ReadyWorker.close`."""


def sweep_jobs(nodes: Sequence[ClusterNode], cases: int) -> list[tuple[PieceJob, ClusterNode, Any]]:
    """Return a job for each node, of which a case has all cores and accelerators, and no more jobs than cases."""
    from harness.jobs.crews.ray_crew import Share

    return [(SweepJob(), node, Share(0, 1, None, False, node.cpus, node.gpus)) for node in nodes[:cases]]
