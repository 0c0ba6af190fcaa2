"""Reads the journal of `visionmark run`: what came of each case in the last process that began it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.report.outcomes import (
    DEVICE_LOST,
    FAILED,
    MEASURED,
    OUT_OF_MEMORY,
    SKIPPED,
    UNFINISHED,
    UNSUPPORTED,
    outcome_of_error,
)
from harness.report.record_rows import Record
from harness.report.recovered import benchmark_of

# A record and its rounds in seconds.
RecordedRow = tuple[Record, tuple[float, ...]]


@dataclass(frozen=True)
class CaseState:
    """What the journal says of a case.

    Attributes:
        case: its id.
        outcome: see `outcomes`.
        reason: why it is not measured; empty if it is.
        rows: its records. A case that is not measured may have some, which are proven as any other.
        took_s: the seconds from its first test to after its last one, None if it did not get there.
        tests: the tests that ran; empty if it did not get to its end.
        identity: the digest of what its process was told to measure, None if no process began it.
        details: what else is known of how its process ended.
        is_of_last_run: whether the last run in the journal began it, and not one that it goes on with.
    """

    case: str
    outcome: str
    reason: str
    rows: tuple[RecordedRow, ...] = ()
    took_s: float | None = None
    tests: tuple[str, ...] = ()
    identity: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    is_of_last_run: bool = False

    def stands_for(self, tests: Collection[str], identity: str) -> bool:
        """Return whether these tests of the case have been measured and proven as the same, or shown a declared gap."""
        return self.outcome in (MEASURED, UNSUPPORTED) and self.identity == identity and set(tests) <= set(self.tests)


@dataclass
class _Attempt:
    """The lines of one process about one case."""

    identity: str | None
    opened_s: float | None = None
    rows: list[RecordedRow] = field(default_factory=list)
    gone: list[Mapping[str, str]] = field(default_factory=list)
    closed: Mapping[str, Any] | None = None
    ended: Mapping[str, Any] | None = None


def is_supervised(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the journal is one of `visionmark run`, whose processes share it."""
    return any("planned" in entry for entry in entries)


def case_states(entries: Iterable[Mapping[str, Any]]) -> dict[str, CaseState]:
    """Return the state of each case, from the lines of the last process that began it.

    Args:
        entries: the lines of the journal, see `fixtures.journal`.
    """
    attempts: dict[str, tuple[int, _Attempt]] = {}
    process, identity, last_run = 0, None, 0
    for entry in entries:
        if "run" in entry or "planned" in entry:
            process, identity = process + 1, entry.get("identity") if "run" in entry else None
            last_run = process if "planned" in entry else last_run
            continue
        case = _case_of_line(entry)
        if case is None:
            continue
        if case not in attempts or attempts[case][0] != process:
            attempts[case] = process, _Attempt(identity)
        _take(attempts[case][1], entry)
    return {
        case: replace(_state(case, attempt), is_of_last_run=process >= last_run)
        for case, (process, attempt) in attempts.items()
    }


def supervised_json(
    states: Sequence[CaseState], environment: Mapping[str, Any] | None, facts: Mapping[str, Any], schema: int | None
) -> dict[str, Any]:
    """Return the rows of a run in the form of `--benchmark-json`, with what came of every case.

    Args:
        states: the cases in the order in which they were to run.
        environment: the machine and the versions, as a process of the run described them; None if none did.
        facts: what else is told of the run, such as its command.
        schema: the version of the form of the records.
    """
    outcomes = [
        {
            **{"case": state.case, "outcome": state.outcome, "reason": state.reason, "rows": len(state.rows)},
            **({} if state.took_s is None else {"took_s": round(state.took_s, 3)}),
            **state.details,
        }
        for state in states
    ]
    return {
        "benchmarks": [benchmark_of(*row) for state in states for row in state.rows],
        "visionmark": {"schema": schema, **facts, "environment": environment, "outcomes": outcomes},
    }


def _case_of_line(entry: Mapping[str, Any]) -> str | None:
    if "row" in entry:
        return str(entry["row"]["case"])
    if "ended" in entry:
        return str(entry["ended"]["case"])
    found = entry.get("opened") or entry.get("closed") or entry.get("case")
    return None if found is None else str(found)


def _take(attempt: _Attempt, entry: Mapping[str, Any]) -> None:
    if "row" in entry:
        attempt.rows.append((entry["row"], tuple(entry.get("rounds_s", ()))))
    elif "opened" in entry:
        attempt.opened_s = entry.get("at_s") if attempt.opened_s is None else attempt.opened_s
    elif "closed" in entry:
        attempt.closed = entry
    elif "ended" in entry:
        attempt.ended = entry["ended"]
    else:
        attempt.gone.append({key: str(entry[key]) for key in ("outcome", "error", "reason")})


def _state(case: str, attempt: _Attempt) -> CaseState:
    outcome, reason = _outcome(attempt)
    details: dict[str, Any] = {}
    if attempt.ended is not None:
        details = {key: value for key, value in attempt.ended.items() if key not in ("case", "outcome", "reason")}
    took_s, tests = None, ()
    if attempt.closed is not None:
        tests = tuple(attempt.closed["tests"])
        took_s = None if attempt.opened_s is None else attempt.closed["at_s"] - attempt.opened_s
    return CaseState(case, outcome, reason, tuple(attempt.rows), took_s, tests, attempt.identity, details)


def _outcome(attempt: _Attempt) -> tuple[str, str]:
    if attempt.ended is not None:  # who watched the process knows better than what was written in it
        return attempt.ended["outcome"], attempt.ended["reason"]
    failed = [one for one in attempt.gone if one["outcome"] == FAILED]
    for outcome in (DEVICE_LOST, OUT_OF_MEMORY, FAILED):
        for one in failed:
            if outcome_of_error(one["error"], one["reason"]) == outcome:
                return outcome, one["reason"] or one["error"]
    if attempt.closed is None:
        return UNFINISHED, "the run ended while it was measured"
    if attempt.rows or not attempt.gone:  # a test of answers may pass without a row
        return MEASURED, ""
    gaps = [one["reason"] for one in attempt.gone if one["outcome"] == "gap"]
    if gaps:
        return UNSUPPORTED, gaps[0]
    return SKIPPED, attempt.gone[0]["reason"]
