"""The process of a side: started with its Python, its checkout and its variables, asked for blocks, and ended.

A job of `spawn` has the Python and the environment of the process that starts it, and a side may have others.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from harness.host.cores import started_on, usable_cores
from harness.host.pressure import Waiting, read_threads, shares_of
from harness.jobs.sides.plan import SidePlan, contradictions_of
from harness.jobs.spawn import END_WITHIN_S, HANGS_AFTER_S, HANGS_AFTER_STEPS, READY_WITHIN_S, stack_of
from harness.measure.taking_turns import SideBlock, SideDied
from harness.progress import ReportPhase
from harness.proof import Contradiction

PROGRAM = Path(__file__).with_name("program.py")
# Runs a file as Python itself would, but that its folder is not where modules are looked for first.
_BOOT = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
_WORDS_SHOWN = 12


class UnsupportedSide(RuntimeError):
    """A side cannot run. The message has the reason."""


class RunningSide:
    """A side that is loaded, proven and warm, and stands still until it is asked. See `VersusSide`."""

    def __init__(self, plan: SidePlan, process: subprocess.Popen[bytes], pipe: Connection, folder: Path) -> None:
        """Take over the process, which writes its words and its stacks into the folder."""
        self.name = plan.name
        self.facts: dict[str, Any] = {}
        self.step_s = 0.0
        self._process = process
        self._pipe = pipe
        self._folder = folder
        # Threads of one side that wait for each other are no sign of other programs.
        cores = plan.placement.cores
        self._waits_for_itself = plan.placement.threads > (usable_cores() if cores is None else len(cores))

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.poll() is None

    def get_ready(self, plan: SidePlan, report: ReportPhase) -> None:
        """Let the process prepare its case, and check that it is what the plan says.

        Raises:
            UnsupportedSide: it cannot run.
            SideDied: it ended, hangs or failed.
            Contradiction, WrongAnswers: it is not what its label says.
        """
        self._tell(plan.assignment(self._folder / "stacks.txt"))
        late = monotonic() + READY_WITHIN_S
        while True:
            word, value = self._hear(late - monotonic(), f"not ready within {READY_WITHIN_S:g} s")
            if word == "phase":
                report(f"{self.name}: {value}")
            elif word == "unsupported":
                raise UnsupportedSide(f"{self.name}: {value}")
            else:
                self.facts, self.step_s = value
                break
        if problems := list(contradictions_of(plan, self.facts)):
            raise Contradiction(f"{self.name}: {'; '.join(problems)}")

    def block(self, rounds: int, untimed: int) -> SideBlock:
        """See `TurnSide.block`."""
        began, before = perf_counter(), read_threads([self.pid])
        self._tell(("block", rounds, untimed))
        _, (rounds_s, idle_cpu_pct) = self._hear(self._allowed_s(rounds + untimed), "completed no block")
        waited = shares_of(Waiting(began, None, before), Waiting(perf_counter(), None, read_threads([self.pid])))
        return SideBlock(rounds_s, None if self._waits_for_itself else waited["runqueue_wait_pct"], idle_cpu_pct)

    def end(self) -> None:
        """See `VersusSide.end`."""
        self._tell(("end", 0, 0))
        self._hear(self._allowed_s(1), "did not end")

    def stop(self) -> None:
        """End the process, which is killed if it does not end by itself."""
        self._pipe.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _allowed_s(self, steps: int) -> float:
        return max(HANGS_AFTER_S, HANGS_AFTER_STEPS * self.step_s) + HANGS_AFTER_STEPS * steps * self.step_s

    def _tell(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise SideDied(self._end()) from None

    def _hear(self, within_s: float, late: str) -> tuple[str, Any]:
        """Return the next message. Nothing runs here meanwhile."""
        try:
            if not self._pipe.poll(max(0.0, within_s)):
                stack = stack_of(self, self._folder / "stacks.txt")
                raise SideDied(f"{self.name} hangs ({late})\n{stack}")
            word, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise SideDied(self._end()) from None
        if word == "denied":
            raise type(value)(f"{self.name}: {value}")
        if word == "failed":
            raise SideDied(f"{self.name} failed: {value.strip().splitlines()[-1]}\n{value}")
        return word, value

    def _end(self) -> str:
        """Return how the process has ended, with its last words."""
        try:
            code = self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            return f"{self.name} does not answer (pid {self.pid})"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        words = (self._folder / "words.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join([f"{self.name} {how} (pid {self.pid})", *words[-_WORDS_SHOWN:]])


@contextmanager
def open_side(plan: SidePlan, folder: Path, report: ReportPhase) -> Iterator[RunningSide]:
    """Start the process of a side, and yield it when it is ready. On exit, it is ended.

    Args:
        plan: what it is to run.
        folder: a folder of its own, for its words and its stacks.
        report: called with a description of what it is doing.

    Raises:
        See `RunningSide.get_ready`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = Pipe()
    command = [str(plan.python), "-c", _BOOT, str(PROGRAM), str(os.getpid()), str(theirs.fileno())]
    with (folder / "words.txt").open("wb") as words, started_on(plan.placement.cores):
        process = subprocess.Popen(
            command,
            cwd=plan.checkout,
            env=plan.variables(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
        )
    theirs.close()
    side = RunningSide(plan, process, ours, folder)
    try:
        side.get_ready(plan, report)
        yield side
    finally:
        side.stop()
