"""The four MLPerf scenarios on a prepared case. LoadGen judges the runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from harness.engines import Runner
from harness.measure.clock import TimedRounds
from harness.measure.loadgen.bridge import LoadgenSettings, run_load
from harness.measure.loadgen.conf import describe_terms, seeds_of
from harness.measure.loadgen.log import LoadgenVerdict, read_answers
from harness.measure.loadgen.system import RunnerUnderTest, Samples, answer_time
from harness.measure.loadgen.terms import LEAST_QUERIES, Terms, is_queued, plan
from harness.measure.pipeline import torch_beside
from harness.progress import ReportPhase
from harness.proof import Prepared
from models.tasks import Task, task_of

# The length of the runs in the server scenario's search. They are too short for the percentile that counts.
PROBE_S = 0.5
PROBE_QUERIES = 128
# If one batch alone takes longer than the bound, no rate is valid, and LoadGen needs few queries to find that out.
HOPELESS_QUERIES = 16
# The search goes upwards from this share of the rate that the runner reaches when it is never idle.
LOWEST_SHARE = 1 / 8
# If a run does not confirm the rate that the search found, the next run uses this fraction of it, up to this many runs.
STEP_DOWN = 0.95
CONFIRMATIONS = 8


@dataclass(frozen=True)
class Scenario:
    """One MLPerf scenario with LoadGen's verdict and numbers.

    Latencies run from the scheduled time of a query to its completion. A number that the run does not support is None,
    and `reasons` says why. `p90_bound_ms` (single_stream) and `p99_bound_ms` (multi_stream) are LoadGen's
    early-stopping estimates: at 99% confidence the percentile is not above them. In the server scenario that holds of
    the latency bound itself, once a run is VALID. `p90_ms` and `p99_ms` are the names that these numbers had first; in
    the server scenario `p99_ms` is the percentile of the queries of a VALID run. `samples_per_second` is the rate of
    completed samples (offline, server). A batch holds the waiting samples, at most `batch_limit`, and is padded if it
    is shorter.

    `terms` says whose terms the run was under: `visionmark`, or `mlperf MODEL conf` with every setting in which it
    departed from them. `seeds` are those in LoadGen's log.
    """

    kind: ClassVar[str] = "scenario"

    scenario: str
    validity: str
    reasons: tuple[str, ...]
    p90_ms: float | None
    p90_bound_ms: float | None
    p99_ms: float | None
    p99_bound_ms: float | None
    samples_per_second: float | None
    queries: int
    samples_per_query: int
    bound_ms: float | None
    mean_ms: float
    max_ms: float
    min_duration_s: float
    batch_limit: int
    loadgen: str
    note: str | None
    logs: str
    terms: str
    seeds: dict[str, int]

    def is_accepted(self, is_mlperf: bool) -> bool:
        """Return whether the test passes: a run by MLPerf's rules must be VALID, a short one may have any verdict."""
        return self.validity == "VALID" or not is_mlperf


def run_scenario(
    scenario: str,
    runner: Runner,
    task: Task,
    batch: int,
    images: Samples,
    terms: Terms,
    report: ReportPhase,
    precision: str,
) -> Scenario:
    """Run one scenario, with its logs in the folder of the terms. For server, the highest valid rate is found first."""
    load = plan(scenario, terms, batch, answer_time(runner, task, images, batch), images.library)
    sut = RunnerUnderTest(runner, task, images, batch, is_queued=is_queued(scenario))

    def run(one: LoadgenSettings, name: str) -> LoadgenVerdict:
        report(f"{scenario}: {name}")
        with torch_beside(runner):
            verdict = run_load(one, sut, images.library, terms.folder / name)
        sut.check_last(precision, f"LoadGen's {scenario} ({name})")
        return verdict

    if scenario != "server":
        return scenario_of(load, run(load, "run"), batch)
    return find_rate(load, run, batch)


def find_rate(load: LoadgenSettings, run: Callable[[LoadgenSettings, str], LoadgenVerdict], batch: int) -> Scenario:
    """Find the highest valid rate of the server scenario, and return the run at that rate.

    LoadGen's own search in short runs gives a first rate. Because these runs are too short for the percentile, the rate
    is then run in full, and lowered in small steps as long as the run is not valid.
    """
    queries = HOPELESS_QUERIES if batch / load.rate > load.bound_s else PROBE_QUERIES
    probe = replace(
        load, mode="find_peak", rate=load.rate * LOWEST_SHARE, min_s=min(PROBE_S, load.min_s), min_queries=queries
    )
    search = run(probe, "search")
    found = found_rate(search)
    if found is None:
        note = f"no valid rate: {probe.rate:.2f} queries/s, the lowest tried, is not"
        return scenario_of(probe, search, batch, note=note)
    least = max(load.min_queries, LEAST_QUERIES["server"])
    rate, runs = found, 0
    while True:
        verdict = run(replace(load, rate=rate, min_queries=least), f"rate-{rate:.2f}")
        runs += 1
        if verdict.is_valid or runs == CONFIRMATIONS:
            note = f"LoadGen's search found {found:.2f} queries/s, runs to confirm one: {runs}"
            return scenario_of(load, verdict, batch, note=note)
        rate *= STEP_DOWN


def found_rate(search: LoadgenVerdict) -> float | None:
    """Return the rate that LoadGen's search found, in queries per second, or None if not even its lowest is valid."""
    for message in search.messages:
        _, mark, number = message.partition("Found peak performance field: ")
        if mark:
            return float(number)
    return None


def scenario_of(load: LoadgenSettings, verdict: LoadgenVerdict, batch: int, note: str | None = None) -> Scenario:
    """Return the record of a run, which is LoadGen's numbers in other units."""
    values: dict[str, Any] = dict(verdict.values)
    early_stopping = {"single_stream": "early_stopping_latency_ss", "multi_stream": "early_stopping_latency_ms"}
    estimate = values.get(early_stopping.get(load.scenario, ""), 0)
    rates = {"offline": "result_samples_per_second", "server": "result_completed_samples_per_sec"}
    counts = verdict.is_valid and load.mode != "find_peak"
    rate = values[rates[load.scenario]] if load.scenario in rates and counts else None
    p90_bound_ms = estimate / 1e6 if load.scenario == "single_stream" and estimate else None
    p99_bound_ms = estimate / 1e6 if load.scenario == "multi_stream" and estimate else None
    p99_ms = p99_bound_ms
    if load.scenario == "server" and counts:
        p99_ms, p99_bound_ms = values["result_99.00_percentile_latency_ns"] / 1e6, load.bound_s * 1e3
    return Scenario(
        scenario=load.scenario,
        validity=verdict.validity,
        reasons=verdict.reasons,
        p90_ms=p90_bound_ms,
        p99_ms=p99_ms,
        p90_bound_ms=p90_bound_ms,
        p99_bound_ms=p99_bound_ms,
        samples_per_second=None if rate is None else float(rate),
        queries=int(values["result_query_count"]),
        samples_per_query=int(values["effective_samples_per_query"]),
        bound_ms=load.bound_s * 1e3 if load.scenario == "server" else None,
        mean_ms=values["result_mean_latency_ns"] / 1e6,
        max_ms=values["result_max_latency_ns"] / 1e6,
        min_duration_s=load.min_s,
        batch_limit=batch,
        loadgen=str(values["loadgen_version"]),
        note=note,
        logs=str(verdict.folder),
        terms=describe_terms(values, load.conf, load.scenario),
        seeds=seeds_of(values),
    )


def measure_scenario(
    scenario: str, prepared: Prepared, images: Samples, terms: Terms, timed: TimedRounds, report: ReportPhase
) -> Scenario | None:
    """Measure one MLPerf scenario, or return None if timing is switched off.

    LoadGen takes the times. For `timed` the whole scenario is a single round, including the search for a rate.

    Args:
        scenario: one of `bridge.SCENARIOS`.
        prepared: the case.
        images: the samples.
        terms: the durations, the latency bound and the folder of the logs.
        timed: the clock.
        report: called with a description of each run.

    Raises:
        Contradiction: a graph was compiled during the scenario.
        WrongAnswers: the last batch of a run was answered otherwise than by itself.
    """
    found: list[Scenario] = []
    batch, task, precision = prepared.case.images, task_of(prepared.spec), prepared.case.precision
    timed(
        "scenario",
        lambda: found.append(run_scenario(scenario, prepared.runner, task, batch, images, terms, report, precision)),
        lambda elapsed_s: None if found else (),
    )
    prepared.require_no_recompilation()
    return found[0] if found else None


def classes_by_loadgen(
    scenario: str, prepared: Prepared, images: Samples, terms: Terms, report: ReportPhase
) -> dict[int, int]:
    """Run LoadGen's accuracy mode, and return the class of every sample in the library by sample index."""
    report(f"{scenario}: accuracy")
    batch, task = prepared.case.images, task_of(prepared.spec)
    settings = plan(scenario, terms, batch, answer_time(prepared.runner, task, images, batch), images.library)
    sut = RunnerUnderTest(prepared.runner, task, images, batch, is_queued=is_queued(scenario))
    verdict = run_load(replace(settings, mode="accuracy"), sut, images.library, terms.folder / "accuracy")
    sut.check_last(prepared.case.precision, f"LoadGen's {scenario} (accuracy)")
    answers = read_answers(verdict.folder)
    return {index: int(np.frombuffer(found[0], np.int64)[0]) for index, found in answers.items()}
