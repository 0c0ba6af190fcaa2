"""Audits of a system under LoadGen, after MLPerf's compliance tests: does it answer as it does when it is not watched?

TEST01: answers sampled in a performance run are those of the accuracy run. TEST04: one sample sent again and again is
not answered faster than different ones, as it would be out of a cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.engines import Runner
from harness.loadgen import Load, run_load
from harness.loadgen_log import read_answers
from harness.scenarios import Images, Report, RunnerUnderTest, Terms, answer_time, is_queued, plan

# MLPerf's tolerance of TEST04, and of what is so quick that the clock itself tells.
FASTER_PCT, FASTER_QUICK_PCT = 10.0, 20.0
QUICK_S = 200e-6
# Runs of each kind, in turn: the speed of a machine drifts, and the fastest of each is compared.
TURNS = 3


def classes_by_loadgen(
    scenario: str, runner: Runner, batch: int, images: Images, terms: Terms, report: Report
) -> dict[int, int]:
    """The class of every sample of the library, by LoadGen's accuracy mode."""
    report(f"{scenario}: accuracy")
    load = replace(_load(scenario, runner, batch, images, terms), mode="accuracy")
    return {index: found[0] for index, found in _classes(load, runner, batch, images, terms, "accuracy").items()}


@dataclass(frozen=True)
class AnswersAudit:
    """TEST01.

    Attributes:
        compared: answers of the performance run that were looked at.
        different: sample index to what the accuracy run said and what the performance run said.
    """

    compared: int
    different: dict[int, tuple[int, int]]


def audit_answers(
    scenario: str, runner: Runner, batch: int, images: Images, terms: Terms, report: Report
) -> AnswersAudit:
    """Answers sampled during a performance run against those of the accuracy run."""
    right = classes_by_loadgen(scenario, runner, batch, images, terms, report)
    report(f"{scenario}: performance, answers logged")
    load = _load(scenario, runner, batch, images, terms)
    # LoadGen draws the answers that it logs from the queries that it expects: all of them
    watched = _classes(replace(load, log_answers=10**9), runner, batch, images, terms, "watched")
    pairs = [(index, right[index], one) for index, found in watched.items() for one in found]
    return AnswersAudit(len(pairs), {index: (a, b) for index, a, b in pairs if a != b})


@dataclass(frozen=True)
class SameAudit:
    """TEST04: median latency of a query, in milliseconds, and how much faster the same sample was, in percent."""

    different_ms: float
    same_ms: float

    @property
    def faster_pct(self) -> float:
        """Of the same sample over different ones; negative where it was slower."""
        return 100 * (1 - self.same_ms / self.different_ms)

    @property
    def allowed_pct(self) -> float:
        """What it may be."""
        return FASTER_QUICK_PCT if self.different_ms / 1e3 <= QUICK_S else FASTER_PCT


def audit_same(scenario: str, runner: Runner, batch: int, images: Images, terms: Terms, report: Report) -> SameAudit:
    """The same sample again and again against different ones, in turn."""
    load = _load(scenario, runner, batch, images, terms)
    times_ms: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(TURNS):
        for is_same in times_ms:
            name = f"{'same' if is_same else 'different'}-{turn + 1}"
            report(f"{scenario}: {name}")
            sut = RunnerUnderTest(runner, images, batch, is_queued=is_queued(scenario))
            verdict = run_load(replace(load, same=is_same), sut, images.library, terms.folder / name)
            times_ms[is_same].append(verdict.values["result_50.00_percentile_latency_ns"] / 1e6)
    return SameAudit(min(times_ms[False]), min(times_ms[True]))


def _load(scenario: str, runner: Runner, batch: int, images: Images, terms: Terms) -> Load:
    return plan(scenario, terms, batch, answer_time(runner, images, batch), images.library)


def _classes(load: Load, runner: Runner, batch: int, images: Images, terms: Terms, name: str) -> dict[int, list[int]]:
    sut = RunnerUnderTest(runner, images, batch, is_queued=is_queued(load.scenario))
    verdict = run_load(load, sut, images.library, terms.folder / name)
    found = read_answers(verdict.folder)
    return {index: [int(np.frombuffer(one, np.int64)[0]) for one in answers] for index, answers in found.items()}
