"""Runs of the supervisor over processes that stand for pytest: see `cases_child`. It imports nothing that computes."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from commands.run.process import WatchedProcess
from commands.run.supervised import run_plan
from harness.files import CHECKOUT
from harness.host.memory_kills import read_memory
from harness.report.journal import read_entries
from harness.report.plan import plan_cases
from harness.report.supervised import case_states

CHILD = Path(__file__).with_name("cases_child.py")
ENGINES = ("eager", "trace", "script")
NINE = [f"m-cpu-fp32-bs{batch}-{engine}" for engine in ENGINES for batch in (1, 2, 4)]


def a_test(name, **changed):
    engine, batch = name.rpartition("-")[2], int(name.split("-bs")[1].split("-")[0])
    parts = {"model": "m", "device": "cpu", "precision": "fp32", "batch": batch, "engine": engine}
    told = {"never": None, "lacks": None, "gap": None, "expected_s": 2.0}
    return {"name": name, "test": f"t.py::test[{name}]", "parts": parts, **told, **changed}


def found_of(*tests, named=None):
    return {"tests": tests, "identity": "same", "named": named or {}, "allows_skips": False}


def start_child(journal, faults, variables, names, number, log):
    words = [sys.executable, str(CHILD), str(journal), str(os.getpid()), "\n".join(names), json.dumps(faults)]
    return WatchedProcess(words, {**os.environ, "PYTHONPATH": str(CHECKOUT), **variables}, log)


class SupervisedRun:
    """A run of children that stand for pytest."""

    def __init__(self, folder):
        self.out = folder / "out.json"
        self.journal = folder / "out.jsonl"
        self.said = []
        self.now_s = 0.0
        self.hangs = None

    def __call__(self, *tests, faults=None, variables=None, resumes=False, named=None, hangs=None, memory=read_memory):
        found = found_of(*(tests or map(a_test, NINE)), named=named)
        earlier = case_states(read_entries(self.journal))
        planned = plan_cases(found, earlier, took_s={}, resumes=resumes)
        faults = {**(faults or {}), **({hangs: "hang"} if hangs else {})}
        start = partial(start_child, self.journal, faults, variables or {})
        self.said.clear()
        self.hangs = hangs
        return run_plan(
            planned,
            found,
            self.out,
            start,
            case_timeout_s=100.0,
            say=self.said.append,
            clock=self._clock,
            memory=memory,
        )

    def _clock(self):
        """Time stands still but for the case that hangs: for that one each look at the clock is some minutes later."""
        entries = read_entries(self.journal) if self.hangs else []
        if entries and entries[-1].get("opened") == self.hangs:
            self.now_s += 1000.0
        return self.now_s

    @property
    def outcomes(self):
        return {one["case"]: one["outcome"] for one in self.document["visionmark"]["outcomes"]}

    @property
    def reasons(self):
        return {one["case"]: one["reason"] for one in self.document["visionmark"]["outcomes"]}

    @property
    def document(self):
        return json.loads(self.out.read_text())

    @property
    def text(self):
        return "\n".join(self.said)

    def begun(self):
        return [entry["opened"] for entry in read_entries(self.journal) if "opened" in entry]


def wait_for(is_so, within_s=60.0):
    until = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
