"""Any picklable job can be started, watched and ended: here one that is no stream."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

import pytest

from harness.cases import Duration
from harness.jobs.job import Placement
from harness.jobs.spawn import JobFailed, open_jobs
from harness.proof import Contradiction

SHORT = Duration(min_s=0.2, max_s=None, min_rounds=1)


@dataclass(frozen=True)
class Counts:
    """Counts to a number. `ends` says how: well, by raising, or by denying its label."""

    name: str
    ends: str = "well"

    def prepare(self, report):
        report("counting")
        if self.ends == "unready":
            raise OSError("no ship")
        return Counting(self)


@dataclass
class Counting:
    job: Counts
    step_s: ClassVar[float] = 0.01

    @property
    def facts(self):
        return {"cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}

    def run(self, duration, window):
        while (ahead_s := window.go_at_s - time.perf_counter()) > 0:
            time.sleep(ahead_s)
        if self.job.ends == "denies":
            raise Contradiction("label says counting, but it slept")
        rounds = 0
        while not window.is_stopped():
            rounds += 1
            window.report(rounds)
            if time.perf_counter() - window.go_at_s >= duration.min_s and window.is_everyone_done():
                break
            time.sleep(0.01)
        return self.job.name, rounds

    def close(self):
        pass


def placed(*jobs):
    cores = sorted(os.sched_getaffinity(0))
    return [(job, Placement((cores[index % len(cores)],), 1)) for index, job in enumerate(jobs)]


def test_jobs_are_prepared_started_together_and_heard():
    phases = []
    with open_jobs(placed(Counts("first"), Counts("second")), phases.append) as jobs:
        assert len({one["pid"] for one in jobs.facts} | {os.getpid()}) == 3
        assert all(len(one["cores"]) == 1 for one in jobs.facts), "each has the core that it was given"
        told = []
        found = jobs.run(SHORT, lambda: told.append("begin"), lambda: told.append("end"))
    assert [name for name, _ in found] == ["first", "second"]
    assert all(rounds > 1 for _, rounds in found)
    assert told == ["begin", "end"]
    assert sorted(phases) == ["first counting", "second counting"]


@pytest.mark.parametrize(
    ("ends", "error", "words"),
    [
        ("unready", JobFailed, r"second failed:\nTraceback(.|\n)*no ship"),
        ("denies", Contradiction, "second: label says counting, but it slept"),
    ],
)
def test_a_job_that_fails_is_named_and_none_is_left(ends, error, words):
    before = threading.active_count()
    with (
        pytest.raises(error, match=words),
        open_jobs(placed(Counts("first"), Counts("second", ends)), lambda text: None) as jobs,
    ):
        jobs.run(SHORT)
    assert threading.active_count() == before
