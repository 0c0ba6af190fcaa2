"""What the process of a side is to run, and in what it is not that, by what it says of itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cases import Case
from harness.jobs.job import Placement
from harness.jobs.sides.side import THREADS, Side, python_of
from harness.jobs.stream import BuildInputs


@dataclass(frozen=True)
class SidePlan:
    """What the process of a side is to run.

    Attributes:
        name: the name in messages, such as `the second side (engine=compile)`.
        side: what differs from the case as selected.
        case: the case of the side.
        inputs: the weights, the cache folder and the calibration images.
        placement: the part of the machine that the side may use.
        checkout: the folder whose code it runs.
        commit: the commit that is checked out there, None for the code as it is.
    """

    name: str
    side: Side
    case: Case
    inputs: BuildInputs
    placement: Placement
    checkout: Path
    commit: str | None = None

    @property
    def python(self) -> Path:
        """The Python that runs the side."""
        return Path(sys.executable) if self.side.environment is None else python_of(self.side.environment)

    def variables(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the process, made of that of this one."""
        path = [str(self.checkout), *([given["PYTHONPATH"]] if given.get("PYTHONPATH") else [])]
        found = {**given, "PYTHONPATH": os.pathsep.join(path)}
        if self.side.environment is not None:
            found["VIRTUAL_ENV"] = str(self.side.environment)
            found["PATH"] = os.pathsep.join([str(self.python.parent), given.get("PATH", os.defpath)])
        if self.commit is not None:
            found.pop("VISIONMARK_COMMIT", None)
        return {**found, **dict(self.side.variables)}

    def assignment(self, stacks: Path) -> dict[str, Any]:
        """Return what the process is told."""
        return {
            "name": self.name,
            "case": str(self.case),
            "weights": str(self.inputs.weights),
            "cache_dir": str(self.inputs.cache_dir),
            "data": self.inputs.data,
            "calibration": self.inputs.calibration,
            "cores": self.placement.cores,
            "threads": self.placement.threads,
            "node": self.placement.node,
            "variables": [name for name, _ in self.side.variables],
            "stacks": str(stacks),
        }


def contradictions_of(plan: SidePlan, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what the process is not the side that was asked for, by what it says of itself."""
    environment, side = facts["environment"], plan.side
    if facts["case"] != str(plan.case):
        yield f"it should run {plan.case}, and {facts['case']} ran"
    if Path(environment["checkout"]) != plan.checkout.resolve():
        yield f"it should run the code in {plan.checkout}, and that in {environment['checkout']} ran"
    if side.environment is not None and Path(environment["prefix"]).resolve() != side.environment.resolve():
        yield f"it should run in {side.environment}, and {environment['prefix']} did"
    if plan.commit is not None and (environment["git"] or {}).get("commit") != plan.commit:
        yield f"it should run revision {plan.commit}, and {environment['git']} ran"
    for name, value in side.variables:
        if environment["asked_variables"].get(name) != value:
            yield f"it should have {name}={value}, and has {environment['asked_variables'].get(name)!r}"
    asked = plan.placement.threads
    threads = (facts["evidence"].get("threads") or {}).get("asked")
    if threads is not None and threads != asked:
        yield f"it should run on {asked} threads{f' ({THREADS})' if side.threads else ''}, and {threads} ran"
