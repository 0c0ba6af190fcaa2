"""The process of one job, as `spawn` starts it: prepare, say so, wait for the start, run, say how it went.

It imports neither the other jobs nor the one who started it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from harness.host.parent_death import die_with_starter
from harness.jobs.job import Job, Placement
from harness.proof import Contradiction
from models.tasks import WrongAnswers

# On this signal a process writes where it is to the stack file: so a hang can be told.
STACK_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True)
class Assignment:
    """What one process is to do.

    Attributes:
        job: the work.
        index: its place in the shared flags.
        placement: what of the machine it may use.
        stacks: file for the stacks of a crash or a hang.
        starter: id of the process that starts it; the job ends with that one.
    """

    job: Job
    index: int
    placement: Placement
    stacks: Path
    starter: int


@dataclass(frozen=True)
class Shared:
    """Memory that all jobs see. It has no locks: one that dies while it holds a lock would stop the others.

    Attributes:
        stop: set by the starter: end now.
        done: a byte for each job, set once it has what it wants; the window ends when all are set.
        rounds: how many rounds each has done, for the starter to see who no longer moves.
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
    """Do one job. A message through the pipe is a word and what goes with it."""
    die_with_starter(assignment.starter)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of a terminal; the starter ends us
    with assignment.stacks.open("w") as stacks:
        faulthandler.enable(stacks)
        faulthandler.register(STACK_SIGNAL, stacks)
        try:
            _work(assignment, shared, pipe)
        except _NotWanted:
            pass
        except (Contradiction, WrongAnswers) as denial:
            with suppress(_NotWanted):
                _tell(pipe, "denied", denial)
        except Exception:  # the boundary of the process: whatever it is, the starter raises it with its traceback
            with suppress(_NotWanted):
                _tell(pipe, "failed", traceback.format_exc())
        finally:
            faulthandler.disable()
            faulthandler.unregister(STACK_SIGNAL)


class _NotWanted(Exception):
    """The starter has closed its end."""


def _tell(pipe: Connection, word: str, value: Any) -> None:
    try:
        pipe.send((word, value))
    except OSError:
        raise _NotWanted from None


def _work(assignment: Assignment, shared: Shared, pipe: Connection) -> None:
    placement = assignment.placement
    if placement.cores is not None:
        os.sched_setaffinity(0, placement.cores)
    torch.set_num_threads(placement.threads)
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
