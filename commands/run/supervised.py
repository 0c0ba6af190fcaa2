"""`visionmark run` on this machine: from the arguments to the plan, the supervisor, and the files of results."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from commands.run.alone import journal_beside, journal_of_our_own, logs_beside, set_aside, signals_heard
from commands.run.collecting import collect
from commands.run.process import WatchedProcess
from commands.run.results import exit_status, render, states_of, write_results
from commands.run.supervisor import Supervisor
from harness.host.memory_kills import MemoryReading, read_memory
from harness.jobs.pytest_child import pytest_command
from harness.jobs.sweep import CASE_VARIABLE
from harness.report.journal import append_line, read_entries
from harness.report.outcomes import MEASURED
from harness.report.pace import Pace
from harness.report.plan import PlannedCase, describe, describe_supervision, expected_by_case, groups_of, plan_cases
from harness.report.supervised import CaseState, case_states

OK, FAILED, USAGE_ERROR = 0, 1, 4
SAY = partial(print, flush=True)
# How many journals of earlier runs are read for how long cases take.
EARLIER_READ = 3
# What pytest may be told and a supervised run may not, each with the way out.
_REFUSED = {
    r"-x|--exitfirst|--maxfail(=.*)?": "a run goes on after a failure: drop it",
    r"-n\d*|--numprocesses(=.*)?|--dist(=.*)?": "cases that run beside each other would not be timed: drop it",
    r"--journal(=.*)?": "the journal lies beside the file of --benchmark-json: drop it",
    r"--collect-only|--co": "--plan says what would run",
}


def refused(known: argparse.Namespace, rest: Sequence[str]) -> str | None:
    """Return why these arguments cannot be, with the way out, or None."""
    if known.cluster is not None:
        own = {"--plan": known.plan, "--resume": known.resume, "--case-timeout": known.case_timeout is not None}
        given = [name for name, is_given in own.items() if is_given]
        return f"{given[0]} is of a run on this machine: drop it, or --cluster" if given else None
    for pattern, why in _REFUSED.items():
        for word in rest:
            if re.fullmatch(pattern, word):
                return f"{word}: {why}"
    return None


def supervise(known: argparse.Namespace, rest: Sequence[str], command: Sequence[str]) -> int:
    """Run the cases on this machine and return the exit status as in `command.main`.

    Args:
        known: the arguments of this command.
        rest: those of pytest.
        command: all of them as they were typed.
    """
    words = [*rest, *(["--resume"] if known.resume and any(word.startswith("--bulk-") for word in rest) else [])]
    try:
        status, found = collect(words)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if status:
        return status
    if found["is_profile"] or any(test["parts"] is None for test in found["tests"]):
        print(
            "visionmark run: a profile and the tests of a server start processes of their own: run them with pytest",
            file=sys.stderr,
        )
        return USAGE_ERROR
    out: Path = known.benchmark_json.expanduser().resolve()
    journal = journal_beside(out)
    try:
        earlier = case_states(read_entries(journal))
    except ValueError as error:
        if known.resume:
            print(f"visionmark run: --resume: {error}", file=sys.stderr)
            return USAGE_ERROR
        earlier = {}
    planned = plan_cases(found, earlier, took_s=_took_s(journal), resumes=known.resume)
    if known.plan:
        print("\n".join([*describe(planned), *describe_supervision(planned, known.case_timeout)]))
        return OK
    start = partial(_start, words, journal, known.output_dir)
    try:
        with journal_of_our_own(journal, is_new=not known.resume):
            set_aside(out, is_new=not known.resume)
            _tell_others(planned, earlier if known.resume else {})
            return run_plan(planned, found, out, start, case_timeout_s=known.case_timeout, command=command)
    except BlockingIOError:
        print(
            f"visionmark run: another run is writing {journal}; give another --benchmark-json, or wait for its end",
            file=sys.stderr,
        )
        return USAGE_ERROR
    except OSError as error:
        print(f"visionmark run: {error.filename or out}: {error.strerror}; give another --benchmark-json or make room")
        return FAILED


def run_plan(
    planned: Sequence[PlannedCase],
    found: Mapping[str, Any],
    out: Path,
    start: Callable[[Sequence[str], int, Path], WatchedProcess],
    *,
    case_timeout_s: float | None = None,
    command: Sequence[str] = (),
    say: Callable[[str], None] = SAY,
    clock: Callable[[], float] = time.monotonic,
    memory: Callable[[], MemoryReading] = read_memory,
) -> int:
    """Run the cases of a plan, write the file after every process, print the table, and return the exit status.

    Args:
        planned: the cases.
        found: what was collected.
        out: the file of results; the journal lies beside it.
        start: starts a process for some cases; see `Supervisor`.
        case_timeout_s: after how many seconds a case is ended, None for the default of each case.
        command: the arguments, for the file.
        say: prints a line.
        clock: gives seconds, for the deadlines.
        memory: reads what the kernel says of memory.

    Raises:
        OSError: the journal or the file cannot be written.
    """
    journal, logs = journal_beside(out), logs_beside(out)
    logs.mkdir(parents=True, exist_ok=True)
    groups = groups_of(planned)
    pace = Pace(expected_by_case(groups))
    supervisor = Supervisor(journal, logs, start, pace, say, case_timeout_s=case_timeout_s, clock=clock, memory=memory)
    append_line(journal, {"planned": [case.name for case in planned], "command": list(command)})
    say(f"{sum(map(len, groups))} of {len(planned)} cases run, in {len(groups)} processes; the journal is {journal}")

    def write() -> list[CaseState]:
        states = states_of(journal, planned, found["identity"])
        stopped = supervisor.stopped_by.name if supervisor.stopped_by else None
        write_results(out, journal, states, planned, {"command": ["run", *command], "stopped_by": stopped})
        return states

    with signals_heard(supervisor.stop):
        for group in groups:
            supervisor.run(group)
            if supervisor.stopped_by is not None or supervisor.usage_error is not None:
                break
            write()
    if supervisor.usage_error is not None:
        print(supervisor.usage_error, file=sys.stderr)
        return USAGE_ERROR
    states = write()
    out.with_name(f"{out.name}.before").unlink(missing_ok=True)
    status, missing = exit_status(states, planned, found)
    say(f"\n{render(states)}")
    for line in missing:
        say(f"NOT MEASURED: {line}")
    for line in supervisor.unexplained:
        say(f"FAILED: {line}")
        status = FAILED
    say(f"{sum(len(state.rows) for state in states)} rows are in {out}")
    if supervisor.stopped_by is not None:
        say(f"stopped by {supervisor.stopped_by.name}: --resume goes on with what is missing")
        return 128 + supervisor.stopped_by
    return status


def _start(
    words: Sequence[str], journal: Path, output_dir: Path | None, names: Sequence[str], number: int, log: Path
) -> WatchedProcess:
    """Start pytest for some cases."""
    folder = [] if output_dir is None else [f"--output-dir={output_dir.expanduser().resolve() / log.stem}"]
    arguments = [*words, "-p", "fixtures.one_case", f"--journal={journal}", *folder]
    return WatchedProcess(pytest_command(arguments), {**os.environ, CASE_VARIABLE: "\n".join(names)}, log)


def _took_s(journal: Path) -> dict[str, float]:
    """Return for the cases of earlier runs how many seconds each took, by the latest journal that says it."""
    earlier = sorted(journal.parent.glob(f"{journal.stem}.*Z*{journal.suffix}"))[-EARLIER_READ:]
    took_s: dict[str, float] = {}
    for path in (*earlier, journal):
        with suppress(OSError, ValueError):
            states = case_states(read_entries(path)).values()
            took_s.update({state.case: state.took_s for state in states if state.took_s is not None})
    return took_s


def _tell_others(planned: Sequence[PlannedCase], earlier: Mapping[str, CaseState]) -> None:
    """Print how many cases were measured before, as the same and as something else."""
    kept = sum(case.state is not None and case.state.outcome == MEASURED for case in planned)
    again = sum(
        case.state is None and case.name in earlier and earlier[case.name].outcome == MEASURED for case in planned
    )
    if earlier:
        print(f"{kept} cases were measured before and are left out")
    if again:
        print(f"{again} were measured with other tests, options, versions or devices, and are measured again")
