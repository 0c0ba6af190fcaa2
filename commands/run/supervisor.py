"""Runs groups of cases, a process each, and keeps the others where a case takes its process with it.

A process writes the journal, and its watcher reads it: which case runs, since when, and which ones are over. Where a
process dies, hangs or loses its device, the watcher adds to the journal what came of the case in which that happened,
and starts another process for the rest.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands.run.process import JournalTail, WatchedProcess
from harness.host.memory_kills import MemoryReading, killed_for_memory, read_memory
from harness.report.journal import append_line
from harness.report.outcomes import FAILED, UNFINISHED, Ending, is_dead, outcome_of_ending
from harness.report.pace import Pace
from harness.report.plan import PlannedCase
from harness.report.supervised import case_states

TICK_S = 0.5
USAGE_ERROR = 4
# A process has some of the cases, and so perhaps none of a value that was named; the whole run knows.
NOTHING_OF_A_NAME = 5
# The logs in their folder, numbered in the order of their processes.
LOGS = "[0-9]*-*.txt"
# Given the names of the cases and the number of the process, starts it.
StartProcess = Callable[[Sequence[str], int, Path], WatchedProcess]


@dataclass
class _Attempt:
    """What the lines of one process have told so far."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def running(self) -> str | None:
        """The case that is open."""
        return self.opened[-1] if self.opened and self.opened[-1] not in self.closed else None


class Supervisor:
    """Runs the cases of a plan."""

    def __init__(
        self,
        journal: Path,
        logs: Path,
        start: StartProcess,
        pace: Pace,
        say: Callable[[str], None],
        *,
        case_timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], MemoryReading] = read_memory,
    ) -> None:
        """Take over a journal that the processes write too.

        Args:
            journal: where it is added what came of cases that did not get to their end.
            logs: the folder for what the processes print.
            start: starts a process for some cases.
            pace: counts the cases.
            say: prints a line.
            case_timeout_s: after how many seconds a case is ended, None for the default of each case.
            clock: gives seconds.
            memory: reads what the kernel says of memory.
        """
        self.stopped_by: signal.Signals | None = None
        self.usage_error: str | None = None
        # Processes that ended with a failure which none of their cases tells: a gate at the end of pytest.
        self.unexplained: list[str] = []
        self._journal, self._logs, self._start, self._pace, self._say = journal, logs, start, pace, say
        self._case_timeout_s, self._clock, self._memory = case_timeout_s, clock, memory
        # what a run that is gone on with has printed stays
        self._earlier_logs = len(list(logs.glob(LOGS)))
        self._processes = 0

    def stop(self, number: int) -> None:
        """Stop the run, as on SIGTERM and Ctrl-C: the process that runs is ended in order."""
        self.stopped_by = signal.Signals(number)

    def run(self, group: Sequence[PlannedCase]) -> None:
        """Run the cases of one model and engine: in one process, and in a new one after each that ends too early."""
        due = list(group)
        while due and self.stopped_by is None and self.usage_error is None:
            over = self._attempt(due)
            for name in over:
                self._pace.end(name)
            due = [case for case in due if case.name not in over]

    def _attempt(self, due: Sequence[PlannedCase]) -> set[str]:
        """Run cases in one process and return those that are over, at least one unless the run is stopped."""
        self._processes += 1
        model, engine = due[0].group
        slug = "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in f"{model}-{engine}")
        log = self._logs / f"{self._earlier_logs + self._processes:03}-{slug}.txt"
        tail, attempt = JournalTail(self._journal), _Attempt()
        before = last = self._memory()
        process = self._start([case.name for case in due], self._processes, log)
        began_s, hung_s = self._clock(), None
        deadlines = {case.name: case.deadline_s(self._case_timeout_s) for case in due}
        try:
            while (status := process.wait(TICK_S)) is None:
                last = self._memory()
                if self._read(tail, attempt):
                    began_s = self._clock()
                deadline_s = deadlines.get(attempt.running or (attempt.opened or [due[0].name])[-1])
                if self.stopped_by is not None:
                    status = process.end()
                    break
                if deadline_s is not None and self._clock() - began_s > deadline_s:
                    hung_s = self._clock() - began_s
                    process.write_stacks()
                    status = process.end()
                    break
        finally:
            process.kill()  # what is left of its session
        self._read(tail, attempt)
        if self.stopped_by is not None:
            self._give_up(attempt)
            return attempt.closed
        assert status is not None
        memory = killed_for_memory(before, last, self._memory())
        return self._over(due, attempt, Ending(status, process.printed(), memory, hung_s), log)

    def _read(self, tail: JournalTail, attempt: _Attempt) -> bool:
        """Read new lines, tell what they say, and return whether another case runs or one is over."""
        is_other = False
        for entry in tail.new_entries():
            attempt.entries.append(entry)
            if "opened" in entry:
                is_other = True
                if entry["opened"] not in attempt.opened:
                    self._say(self._pace.begin(entry["opened"]))
                attempt.opened.append(entry["opened"])
            elif "closed" in entry:
                is_other = True
                attempt.closed.add(entry["closed"])
                self._pace.end(entry["closed"])
                state = case_states(attempt.entries)[entry["closed"]]
                took = "" if state.took_s is None else f" in {state.took_s:.0f} s"
                self._say(f"  {state.outcome}{took}{': ' * bool(state.reason)}{state.reason}")
            elif entry.get("outcome") == FAILED:
                attempt.failed.add(entry["case"])
        return is_other

    def _over(self, due: Sequence[PlannedCase], attempt: _Attempt, ending: Ending, log: Path) -> set[str]:
        """Write what came of the case in which a process ended too early, and return the cases that are over."""
        over = set(attempt.closed)
        left = [case.name for case in due if case.name not in over]
        is_early = ending.hung_s is not None or is_dead(ending.status)
        if not left and not is_early:
            if ending.status not in (0, NOTHING_OF_A_NAME) and not attempt.failed:
                self.unexplained.append(
                    f"pytest ended with {ending.status} though no test of {due[0].name} to {due[-1].name} failed: a "
                    f"side is slower (--against), numbers regressed (--benchmark-compare-fail), or a file was not "
                    f"written; {log}"
                )
            return over
        last = attempt.opened[-1] if attempt.opened else None
        if not is_early and last is not None and last in attempt.failed and last not in attempt.closed:
            state = case_states(attempt.entries)[last]
            self._say(f"  {state.outcome}: {state.reason}")
            return over | {last}
        if not is_early and ending.status == USAGE_ERROR and last is None and self._processes == 1:
            self.usage_error = ending.text
            return set(left)
        outcome, reason = outcome_of_ending(ending)
        if attempt.running is None and not is_early:  # pytest ended in order without them, as it would again
            for name in left:
                self._write_end(name, outcome, reason, ending, log)
            return over | set(left)
        culprit = attempt.running or last or due[0].name
        if last is None:
            reason = f"{reason}, before its first test"
        elif attempt.running is None:
            reason = f"{reason}, after the last test of the case"
        self._write_end(culprit, outcome, reason, ending, log)
        return over | {culprit}

    def _write_end(self, name: str, outcome: str, reason: str, ending: Ending, log: Path) -> None:
        details = {"status": ending.status, "log": str(log)}
        append_line(self._journal, {"ended": {"case": name, "outcome": outcome, "reason": reason, **details}})
        self._say(f"  {name}: {outcome}: {reason}; {log}")

    def _give_up(self, attempt: _Attempt) -> None:
        """Write of the case that ran when the run was stopped that it is not at its end, whatever its process wrote."""
        if attempt.running is not None and self.stopped_by is not None:
            reason = f"{self.stopped_by.name}: the run was stopped while it was measured"
            append_line(self._journal, {"ended": {"case": attempt.running, "outcome": UNFINISHED, "reason": reason}})
