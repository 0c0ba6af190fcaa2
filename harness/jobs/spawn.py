"""Jobs on this machine: a process each, started by spawn, one common window, a deadline on everything.

Here are the starting, the watching and the ending. What happens inside a process is `worker`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

from harness.cases import Duration
from harness.jobs.job import Job, Placement
from harness.jobs.worker import STACK_SIGNAL, Assignment, Shared, main
from harness.progress import ReportPhase

# A job has so long to load, compile and warm up.
READY_WITHIN_S = 900.0
# In the window a job that completes nothing for so long hangs; or for so many times what one of its steps took before.
HANGS_AFTER_S = 20.0
HANGS_AFTER_STEPS = 50
# The common start lies so far ahead that every job has read it.
AHEAD_S = 0.05
WATCH_S = 0.5
# A job that was told to end has so long before it is killed.
END_WITHIN_S = 3.0


class JobFailed(RuntimeError):
    """A job died, hung or failed; the message names it and gives its traceback."""


@dataclass
class _Process:
    assignment: Assignment
    process: SpawnProcess
    pipe: Connection
    facts: dict[str, Any] | None = None
    step_s: float = 0.0

    @property
    def name(self) -> str:
        return self.assignment.job.name


class RunningJobs:
    """Jobs that are ready, until they are closed."""

    def __init__(self, processes: list[_Process], shared: Shared, ready_s: float) -> None:
        """Take over the processes. `ready_s` is what it took until all were ready, their start included."""
        self.ready_s = ready_s
        self._processes = processes
        self._shared = shared

    @property
    def facts(self) -> list[dict[str, Any]]:
        """What each job says of itself, in the order of the jobs."""
        return [one.facts for one in self._processes if one.facts is not None]

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [one.process.pid for one in self._processes if one.process.pid is not None]

    def run(
        self, duration: Duration, begin: Callable[[], None] = lambda: None, end: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """One common window. What each job returns, in the order of the jobs.

        Args:
            duration: how long the window lasts.
            begin: called when it begins.
            end: called when every job has ended it.

        Raises:
            JobFailed: a job died, hung or failed in it.
            Contradiction, WrongAnswers: as a job raised it.
        """
        go_at_s = perf_counter() + AHEAD_S
        for one in self._processes:
            one.pipe.send((go_at_s, duration))
        sleep(max(0.0, go_at_s - perf_counter()))
        begin()
        try:
            found = _gather(self._processes, "ran", self._hangs, lambda one, text: None)
        finally:
            end()
        return [found[one.assignment.index] for one in self._processes]

    def _hangs(self) -> Callable[[_Process], str | None]:
        """Tells, when it is asked again and again, whether a job has not moved for too long."""
        seen: dict[int, tuple[int, float]] = {}

        def hangs(one: _Process) -> str | None:
            index = one.assignment.index
            rounds, now = self._shared.rounds[index], monotonic()
            if seen.get(index, (-1, now))[0] != rounds:
                seen[index] = (rounds, now)
            allowed_s = max(HANGS_AFTER_S, HANGS_AFTER_STEPS * one.step_s)
            stood_s = now - seen[index][1]
            return f"completed nothing for {stood_s:.0f} s, after {rounds} batches" if stood_s > allowed_s else None

        return hangs


@contextmanager
def open_jobs(jobs: Sequence[tuple[Job, Placement]], report: ReportPhase) -> Iterator[RunningJobs]:
    """Jobs in processes of their own, ready to run; none is left when this is left.

    Raises:
        JobFailed: one died, hung or failed on the way.
        Contradiction, WrongAnswers: as a job raised it.
    """
    context = multiprocessing.get_context("spawn")
    began_s = perf_counter()
    with tempfile.TemporaryDirectory(prefix="visionmark-jobs-") as folder:
        count = len(jobs)
        shared = Shared(context.RawValue("b", 0), context.RawArray("b", count), context.RawArray("Q", count))
        started: list[_Process] = []
        try:
            for index, (job, placement) in enumerate(jobs):
                assignment = Assignment(job, index, placement, Path(folder) / f"job-{index + 1}.txt", os.getpid())
                ours, theirs = context.Pipe()
                process = context.Process(target=main, args=(assignment, shared, theirs), name=job.name, daemon=True)
                process.start()
                theirs.close()
                started.append(_Process(assignment, process, ours))
            late = monotonic() + READY_WITHIN_S

            def too_late() -> Callable[[_Process], str | None]:
                return lambda one: f"not ready within {READY_WITHIN_S:g} s" if monotonic() > late else None

            ready = _gather(started, "ready", too_late, lambda one, text: report(f"{one.name} {text}"))
            for one in started:
                one.facts, one.step_s = ready[one.assignment.index]
            yield RunningJobs(started, shared, perf_counter() - began_s)
        finally:
            shared.stop.value = 1
            _end(started)


def _gather(
    processes: list[_Process],
    word: str,
    watch: Callable[[], Callable[[_Process], str | None]],
    report: Callable[[_Process, str], None],
) -> dict[int, Any]:
    """What every job says with that word, by its index.

    Raises:
        JobFailed: one says something else, nothing more, or nothing for too long.
    """
    found: dict[int, Any] = {}
    hangs = watch()
    while len(found) < len(processes):
        missing = [one for one in processes if one.assignment.index not in found]
        heard = wait([one.pipe for one in missing], timeout=WATCH_S)
        for one in missing:
            if one.pipe in heard:
                said, value = _receive(one)
                if said == "phase":
                    report(one, value)
                elif said == word:
                    found[one.assignment.index] = value
                elif said == "denied":
                    raise type(value)(f"{one.name}: {value}")
                else:
                    raise JobFailed(f"{one.name} failed:\n{value}")
            elif why := hangs(one):
                raise JobFailed(f"{one.name} hangs: it has {why}; it is here:\n{_stack_of(one)}")
    return found


def _receive(one: _Process) -> Any:
    """The next message of a job.

    Raises:
        JobFailed: it died.
    """
    try:
        return one.pipe.recv()
    except (EOFError, ConnectionResetError):
        one.process.join(END_WITHIN_S)
        code = one.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        stacks = one.assignment.stacks.read_text().strip()
        raise JobFailed(f"{one.name} {how} (pid {one.process.pid})\n{stacks}".rstrip()) from None


def _stack_of(one: _Process) -> str:
    """Where a job is, by asking it to write its stack."""
    if one.process.pid is None or not one.process.is_alive():
        return "(it has ended)"
    os.kill(one.process.pid, STACK_SIGNAL)
    end = monotonic() + 1.0
    while monotonic() < end and not one.assignment.stacks.read_text():
        sleep(0.05)
    return one.assignment.stacks.read_text().strip() or "(it does not answer; it may be stopped)"


def _end(processes: list[_Process]) -> None:
    """Let every job close what it holds, and kill what has not ended in time."""
    for one in processes:
        one.pipe.close()  # one that waits for the start hears that none will come
    late = monotonic() + END_WITHIN_S
    for one in processes:
        one.process.join(max(0.0, late - monotonic()))
        if one.process.is_alive():
            one.process.kill()
        one.process.join()
        one.process.close()
