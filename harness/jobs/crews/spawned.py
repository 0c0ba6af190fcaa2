"""A crew of spawned processes on this machine, each of which does one piece of work after the other."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from harness.host.cores import started_on
from harness.jobs.crews.crew import Heard, PieceJob
from harness.jobs.job import Placement
from harness.jobs.spawn import end_of, end_processes, stack_of
from harness.jobs.worker import NotWanted, guarded, take_place, tell
from harness.measure.bulk.shifts import Piece


@dataclass
class _Member:
    stacks: Path
    process: SpawnProcess
    pipe: Connection


class SpawnedCrew:
    """Workers as processes of this machine. See `Crew`."""

    launcher = "spawn"

    def __init__(self, jobs: Sequence[tuple[PieceJob, Placement]], folder: Path) -> None:
        """Have one slot for each job, with the part of the machine that it may use. Stacks are written to `folder`."""
        self._jobs = jobs
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._members: dict[int, _Member] = {}
        self._number = 0

    @property
    def slots(self) -> int:
        """See `Crew.slots`."""
        return len(self._jobs)

    @property
    def names(self) -> tuple[str, ...]:
        """See `Crew.names`."""
        return (os.uname().nodename,)

    @property
    def pids(self) -> list[int]:
        """The ids of the processes, in the order of their start."""
        return [one.process.pid for one in self._members.values() if one.process.pid is not None]

    def hire(self, slot: int) -> int:
        """See `Crew.hire`."""
        self._number += 1
        job, placement = self._jobs[slot]
        stacks = self._folder / f"worker-{self._number}.txt"
        ours, theirs = self._context.Pipe()
        name = f"worker {self._number}"
        process = self._context.Process(
            target=_serve, args=(job, placement, stacks, os.getpid(), theirs), name=name, daemon=True
        )
        with started_on(placement.cores):
            process.start()
        theirs.close()
        self._members[self._number] = _Member(stacks, process, ours)
        return self._number

    def tell(self, worker: int, word: str, piece: Piece | None = None) -> None:
        """See `Crew.tell`. A worker that has died meanwhile is heard of as lost."""
        with suppress(OSError):
            self._members[worker].pipe.send((word, piece))

    def hear(self, timeout_s: float) -> list[Heard]:
        """See `Crew.hear`."""
        of = {member.pipe: worker for worker, member in self._members.items()}
        found = []
        for pipe in wait(list(of), timeout=timeout_s):
            worker = of[pipe]  # type: ignore[index]
            try:
                word, value = self._members[worker].pipe.recv()
            except (EOFError, OSError):
                member = self._members.pop(worker)
                found.append(Heard(worker, "lost", end_of(member.process, member.stacks)))
                end_processes([(member.process, member.pipe)])
            else:
                found.append(Heard(worker, word, value))
        return found

    def dismiss(self, worker: int) -> None:
        """See `Crew.dismiss`."""
        member = self._members.pop(worker)
        member.process.kill()
        end_processes([(member.process, member.pipe)])

    def stack_of(self, worker: int) -> str:
        """See `Crew.stack_of`."""
        member = self._members[worker]
        return stack_of(member.process, member.stacks)

    def close(self) -> None:
        """End all workers."""
        end_processes([(member.process, member.pipe) for member in self._members.values()])
        self._members.clear()


@contextmanager
def spawned_crew(jobs: Sequence[tuple[PieceJob, Placement]]) -> Iterator[SpawnedCrew]:
    """Yield a crew of this machine with one slot for each job. On exit, all its processes are ended."""
    with tempfile.TemporaryDirectory(prefix="visionmark-crew-") as folder:
        crew = SpawnedCrew(jobs, Path(folder))
        try:
            yield crew
        finally:
            crew.close()


def _serve(job: PieceJob, placement: Placement, stacks: Path, starter: int, pipe: Connection) -> None:
    """Do pieces of work in a process of its own, until the pipe is closed."""
    guarded(starter, stacks, pipe, lambda: _do_pieces(job, placement, pipe))


def _do_pieces(job: PieceJob, placement: Placement, pipe: Connection) -> None:
    take_place(placement)
    ready = job.prepare(lambda text: tell(pipe, "phase", text))
    try:
        tell(pipe, "ready", ready.facts)
        after: list[tuple[str, Any]] = []
        while True:
            word, piece = after.pop() if after else _next(pipe)
            if word == "work" and pipe.poll():
                after.append(_next(pipe))
                if after[0][0] == "work":
                    ready.expect(after[0][1])
            if word == "warm":
                ready.warm()
                tell(pipe, "warm", None)
            elif word == "finish":
                ready.finish()
                tell(pipe, "finished", None)
            else:
                tell(pipe, "done", (piece.index, ready.work(piece)))
    finally:
        ready.close()


def _next(pipe: Connection) -> tuple[str, Any]:
    """Return what the starter says next.

    Raises:
        NotWanted: the starter has closed its end of the pipe.
    """
    try:
        word, piece = pipe.recv()
    except (EOFError, OSError):
        raise NotWanted from None
    return word, piece
