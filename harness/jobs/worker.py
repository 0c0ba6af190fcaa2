"""The process of one job, as `spawn` starts it: it prepares the job, waits for the start, runs, and reports each step.

This module imports neither a particular kind of job nor the code that starts the processes.
"""

from __future__ import annotations

import faulthandler
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.host.cores import allot, take
from harness.host.parent_death import die_with_starter
from harness.jobs.job import Job, Placement
from harness.proof import Contradiction
from models.tasks import WrongAnswers

# On this signal a process writes its stack to the stack file, so that the place of a hang can be reported.
STACK_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True)
class Assignment:
    """What one process has to do.

    Attributes:
        job: the work.
        index: the position of the job in the shared arrays.
        placement: the part of the machine that the job may use.
        stacks: the file to which the stacks of a crash or a hang are written.
        starter: the id of the process that starts the job; when that process ends, the job ends too.
    """

    job: Job
    index: int
    placement: Placement
    stacks: Path
    starter: int


@dataclass(frozen=True)
class Shared:
    """Memory that all jobs share. It has no locks, because a job that died while it held one would stop the others.

    Attributes:
        stop: a byte that the starter sets to tell all jobs to end now.
        done: a byte for each job, set once the job has enough rounds; the window ends when all are set.
        rounds: the number of rounds that each job has done, by which the starter sees that a job hangs.
    """

    stop: Any
    done: Any
    rounds: Any


@dataclass(frozen=True)
class SharedWindow:
    """One job's view of the common window. See `harness.measure.streams.Window`."""

    go_at_s: float
    shared: Shared
    index: int

    def is_stopped(self) -> bool:
        """See `Window.is_stopped`."""
        return bool(self.shared.stop.value)

    def report(self, rounds: int) -> None:
        """See `Window.report`."""
        self.shared.rounds[self.index] = rounds

    def is_everyone_done(self) -> bool:
        """See `Window.is_everyone_done`."""
        self.shared.done[self.index] = 1
        return all(self.shared.done)


def main(assignment: Assignment, shared: Shared, pipe: Connection) -> None:
    """Do one job. Each message through the pipe is a pair of a word, such as `ready`, and a value."""
    die_with_starter(assignment.starter)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the starter ends us
    with assignment.stacks.open("w", encoding="utf-8") as stacks:
        faulthandler.enable(stacks)
        faulthandler.register(STACK_SIGNAL, stacks)
        try:
            _work(assignment, shared, pipe)
        except _NotWanted:
            pass
        except (Contradiction, WrongAnswers) as denial:
            with suppress(_NotWanted):
                _tell(pipe, "denied", denial)
        except Exception:  # the boundary of the process: the starter raises any error, with its traceback
            with suppress(_NotWanted):
                _tell(pipe, "failed", traceback.format_exc())
        finally:
            faulthandler.disable()
            faulthandler.unregister(STACK_SIGNAL)


class _NotWanted(Exception):
    """The starter has closed its end of the pipe, so the job is no longer wanted."""


def _tell(pipe: Connection, word: str, value: Any) -> None:
    try:
        pipe.send((word, value))
    except OSError:
        raise _NotWanted from None


def _work(assignment: Assignment, shared: Shared, pipe: Connection) -> None:
    placement = assignment.placement
    take(allot(threads=placement.threads, source="the job's placement", cores=placement.cores, node=placement.node))
    ready = assignment.job.prepare(lambda text: _tell(pipe, "phase", text))
    try:
        _tell(pipe, "ready", (ready.facts, ready.step_s))
        try:
            go_at_s, duration = pipe.recv()
        except EOFError:
            raise _NotWanted from None
        _tell(pipe, "ran", ready.run(duration, SharedWindow(go_at_s, shared, assignment.index)))
    finally:
        ready.close()
