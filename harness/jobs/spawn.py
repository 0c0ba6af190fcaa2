"""Starting, watching and ending jobs on this machine. Each job is a spawned process, and every wait has a deadline.

The jobs run together in one common window. The module `worker` holds what happens inside a process.
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
from typing import Any, Protocol

from harness.cases import Duration
from harness.host.cores import started_on
from harness.jobs.job import Job, Placement
from harness.jobs.worker import STACK_SIGNAL, Assignment, Shared, main
from harness.progress import ReportPhase

# The time that a job has for loading, compiling and warming up.
READY_WITHIN_S = 900.0
# In the window, a job hangs if it completes nothing for this time and for this many times the length of its own step.
HANGS_AFTER_S = 20.0
HANGS_AFTER_STEPS = 50
# The common start lies this far in the future, and this many steps of the slowest job, so that every job has read it
# before and is warm again: one that was ready early has stood still while the others were compiled.
AHEAD_S = 0.5
AHEAD_STEPS = 3
WATCH_S = 0.5
# The time that a job has for ending itself before it is killed.
END_WITHIN_S = 3.0


class JobFailed(RuntimeError):
    """A job died, hung or failed. The message names the job and gives its traceback."""


class StackWriter(Protocol):
    """A process that writes its stack when it is signalled, as those of `worker.guarded` do."""

    @property
    def pid(self) -> int | None:
        """Its id, None if it was not started."""

    def is_alive(self) -> bool:
        """Return whether it has not ended."""


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
    """Jobs that are ready to run."""

    def __init__(self, processes: list[_Process], shared: Shared, ready_s: float) -> None:
        """Take over the processes. `ready_s` is the time in seconds from their start until all were ready."""
        self.ready_s = ready_s
        self._processes = processes
        self._shared = shared

    @property
    def facts(self) -> list[dict[str, Any]]:
        """The facts that each job reports (`ReadyJob.facts`), in the order of the jobs."""
        return [one.facts for one in self._processes if one.facts is not None]

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [one.process.pid for one in self._processes if one.process.pid is not None]

    def run(
        self, duration: Duration, begin: Callable[[], None] = lambda: None, end: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """Run all jobs in one common window, and return their results in the order of the jobs.

        Args:
            duration: how long the window lasts.
            begin: called when the window begins.
            end: called when every job has ended its work.

        Raises:
            JobFailed: a job died, hung or failed in the window.
            Contradiction, WrongAnswers: a job raised this error.
        """
        steps_s = AHEAD_STEPS * max(one.step_s for one in self._processes)
        go_at_s = perf_counter() + max(AHEAD_S, steps_s)
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
        """Return a function that, called repeatedly, tells why a job counts as hanging, or None while it does not."""
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
    """Start each job in a separate process, and yield them when all are ready. On exit, all processes are ended.

    Args:
        jobs: the jobs, each with the part of the machine that it may use.
        report: called with a description of what each job is doing.

    Raises:
        JobFailed: a job died, hung or failed before it was ready.
        Contradiction, WrongAnswers: a job raised this error.
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
                with started_on(placement.cores):
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
            end_processes([(one.process, one.pipe) for one in started])


def _gather(
    processes: list[_Process],
    word: str,
    watch: Callable[[], Callable[[_Process], str | None]],
    report: Callable[[_Process, str], None],
) -> dict[int, Any]:
    """Wait until every job has sent a message with this word, and return the values by the index of the job.

    Raises:
        JobFailed: a job failed, ended, or hangs.
        Contradiction, WrongAnswers: a job raised this error.
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
                raise JobFailed(
                    f"{one.name} hangs: it has {why}; it is here:\n{stack_of(one.process, one.assignment.stacks)}"
                )
    return found


def _receive(one: _Process) -> Any:
    """Return the next message of a job.

    Raises:
        JobFailed: the job died.
    """
    try:
        return one.pipe.recv()
    except (EOFError, ConnectionResetError):
        raise JobFailed(f"{one.name} {end_of(one.process, one.assignment.stacks)}") from None


def end_of(process: SpawnProcess, stacks: Path) -> str:
    """Return how a process has ended, with the stacks that it wrote if it crashed."""
    process.join(END_WITHIN_S)
    code = process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
    written = stacks.read_text(encoding="utf-8").strip() if stacks.exists() else ""
    return f"{how} (pid {process.pid})\n{written}".rstrip()


def stack_of(process: StackWriter, stacks: Path) -> str:
    """Return the current stack of a process, which is asked by a signal to write it."""
    if process.pid is None or not process.is_alive():
        return "(it has ended)"
    os.kill(process.pid, STACK_SIGNAL)
    end = monotonic() + 1.0
    while monotonic() < end and not stacks.read_text(encoding="utf-8"):
        sleep(0.05)
    return stacks.read_text(encoding="utf-8").strip() or "(it does not answer; it may be stopped)"


def end_processes(processes: Sequence[tuple[SpawnProcess, Connection]]) -> None:
    """Let every process release what it holds, and kill those that do not end in time."""
    for _, pipe in processes:
        pipe.close()  # a process that waits for a message learns that none will come
    late = monotonic() + END_WITHIN_S
    for process, _ in processes:
        process.join(max(0.0, late - monotonic()))
        if process.is_alive():
            process.kill()
        process.join()
        process.close()
