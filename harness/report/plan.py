"""What a run will do: which cases run, in which processes, which do not and why, and about how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.outcomes import MEASURED, SKIPPED, UNSUPPORTED
from harness.report.pace import in_words
from harness.report.supervised import CaseState

# What getting a case ready takes where no earlier run tells: loading, compiling, warming up and proving. Compilers of
# large networks take minutes.
READY_S = 8.0
# What a process takes before its first case: importing libraries and collecting.
START_S = 10.0
# The deadline of a case unless one is given: so long, or so many times what it is expected to take.
LEAST_DEADLINE_S, DEADLINE_FACTOR = 1800.0, 10.0


@dataclass(frozen=True)
class PlannedCase:
    """One case of a run.

    Attributes:
        name: its id.
        parts: its parts, as in a record.
        tests: its tests.
        state: what is known of it without measuring: that it cannot run, or that it is measured; None if it is to run.
        expected_s: about how many seconds it takes, None if neither an earlier run nor the options say it.
        is_told_by_earlier: whether an earlier run says it.
        gap: the declared gap that it is expected to show, None for none.
    """

    name: str
    parts: Mapping[str, Any]
    tests: tuple[str, ...]
    state: CaseState | None
    expected_s: float | None
    is_told_by_earlier: bool
    gap: str | None

    @property
    def group(self) -> tuple[str, str]:
        """The model and the engine, whose cases share a process."""
        return self.parts["model"], self.parts["engine"]

    def deadline_s(self, asked_s: float | None) -> float | None:
        """Return after how many seconds the case is ended: those that are asked for, or enough for what it does.

        A case of which nobody knows how long it takes, such as that of a data set, has none unless it is asked for.
        """
        if asked_s is not None:
            return asked_s
        return None if self.expected_s is None else max(LEAST_DEADLINE_S, DEADLINE_FACTOR * self.expected_s)


def plan_cases(
    found: Mapping[str, Any], earlier: Mapping[str, CaseState], *, took_s: Mapping[str, float], resumes: bool
) -> list[PlannedCase]:
    """Return all cases in the order in which they run: those of a model and engine one after the other.

    Args:
        found: what `fixtures.one_case` writes.
        earlier: the state of each case in the journal that is resumed.
        took_s: for the cases of earlier runs how many seconds each took.
        resumes: whether what is measured already is left out.
    """
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for test in found["tests"]:
        by_case.setdefault(test["name"], []).append(test)
    planned = []
    for name, tests in by_case.items():
        state = _known(name, tests)
        kept = earlier.get(name)
        if state is None and resumes and kept and kept.stands_for([t["test"] for t in tests], found["identity"]):
            state = kept
        expected_s = took_s.get(name, _expected_s(tests))
        gap = next((test["gap"] for test in tests if test["gap"]), None)
        parts, names = tests[0]["parts"], tuple(test["test"] for test in tests)
        planned.append(PlannedCase(name, parts, names, state, expected_s, name in took_s, gap))
    order = {group: place for place, group in enumerate(dict.fromkeys(case.group for case in planned))}
    return sorted(planned, key=lambda case: order[case.group])


def groups_of(cases: Sequence[PlannedCase]) -> list[list[PlannedCase]]:
    """Return the cases that are to run, those of each model and engine together."""
    groups: dict[tuple[str, str], list[PlannedCase]] = {}
    for case in cases:
        if case.state is None:
            groups.setdefault(case.group, []).append(case)
    return list(groups.values())


def expected_by_case(groups: Sequence[Sequence[PlannedCase]]) -> dict[str, float | None]:
    """Return about how many seconds each case takes, the first of a process with what its process takes."""
    return {
        case.name: None if case.expected_s is None else case.expected_s + START_S * (place == 0)
        for group in groups
        for place, case in enumerate(group)
    }


def describe(cases: Sequence[PlannedCase]) -> list[str]:
    """Return the lines that say what runs, what does not and why, and about how long it all takes."""
    groups = groups_of(cases)
    expected = expected_by_case(groups)
    lines = []
    for case in (case for group in groups for case in group):
        basis = "an earlier run" if case.is_told_by_earlier else "the durations asked for"
        length = "of unknown length" if case.expected_s is None else f"about {in_words(case.expected_s)} by {basis}"
        gap = f"; expected to fail: {case.gap}" if case.gap else ""
        lines.append(f"run {case.name}: {len(case.tests)} tests, {length}{gap}")
    kept = [case.state for case in cases if case.state is not None]
    lines += [f"measured before {state.case}" for state in kept if state.outcome == MEASURED]
    reasons = Counter((state.outcome, state.reason) for state in kept if state.outcome != MEASURED)
    lines += [f"{outcome} {count}: {reason}" for (outcome, reason), count in reasons.most_common()]
    known = [seconds for seconds in expected.values() if seconds is not None]
    unknown = len(expected) - len(known)
    total = f": about {in_words(sum(known))}" if known else ""
    more = f", and {unknown} of unknown length" if unknown else ""
    return [*lines, f"{len(expected)} of {len(cases)} cases run{total}{more}"]


def describe_supervision(cases: Sequence[PlannedCase], asked_s: float | None) -> list[str]:
    """Return the lines that say in how many processes cases run, and when one is ended.

    Args:
        cases: the planned cases.
        asked_s: the deadline of a case in seconds that is asked for, None for the default.
    """
    groups = groups_of(cases)
    deadlines = [case.deadline_s(asked_s) for group in groups for case in group]
    lines = [f"{len(groups)} processes, one for each model and engine"]
    if given := [one for one in deadlines if one is not None]:
        lines.append(f"a case is ended after {in_words(max(given))} at the most")
    if None in deadlines:
        lines.append(f"{deadlines.count(None)} cases have no deadline: --case-timeout gives one")
    return lines


def _known(name: str, tests: Sequence[Mapping[str, Any]]) -> CaseState | None:
    """Return the state of a case of which no test can run, or None if one can."""
    if all(test["never"] for test in tests):
        return CaseState(name, UNSUPPORTED, tests[0]["never"])
    if all(test["never"] or test["lacks"] for test in tests):
        return CaseState(name, SKIPPED, next(test["lacks"] for test in tests if test["lacks"]))
    return None


def _expected_s(tests: Sequence[Mapping[str, Any]]) -> float | None:
    parts = [0.0 if test["never"] or test["lacks"] else test["expected_s"] for test in tests]
    known = [one for one in parts if one is not None]
    return READY_S + sum(known) if len(known) == len(parts) else None
