"""The four MLPerf scenarios on a prepared case: the system under test, its batching, and the settings for LoadGen.

A batch holds the samples that are waiting, at most as many as the case's batch size. A shorter batch is padded with its
own first image, because runners are compiled for one shape. LoadGen judges the runs.
"""

from __future__ import annotations

import queue
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch

from harness.engines import Runner
from harness.measure.clock import TimedRounds
from harness.measure.loadgen.bridge import MULTI_STREAM_SAMPLES, Library, LoadgenSettings, Respond, run_load
from harness.measure.loadgen.log import LoadgenVerdict, read_answers
from harness.progress import ReportPhase
from harness.proof import Prepared
from models.tasks import Task, task_of

Fetch = Callable[[Sequence[int]], Sequence[torch.Tensor]]

# MLPerf inference rules, "Scenarios": the least duration in seconds and the least number of samples of a valid run.
MLPERF_S = 600.0
MLPERF_OFFLINE_SAMPLES = 24_576
# The latency bound in seconds that the rules set for image classification in the server scenario.
MLPERF_BOUND_S = 0.015
# The queries that LoadGen's early stopping needs for a percentile at 99% confidence: p90 in single_stream, p99 in
# multi_stream, and p99 under a bound in server.
LEAST_QUERIES = {"single_stream": 64, "multi_stream": 662, "offline": 1, "server": 459}
SHORT_S = 2.0
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
CALIBRATION_BATCHES = 5


@dataclass(frozen=True)
class Terms:
    """The terms under which a scenario is run.

    Attributes:
        min_s: the least duration of a run in seconds.
        max_s: the longest duration of a run in seconds, or None.
        bound_s: the latency bound of the server scenario in seconds.
        is_mlperf: whether the counts of MLPerf's rules apply, and an INVALID run fails.
        folder: the folder for LoadGen's logs.
    """

    min_s: float
    max_s: float | None
    bound_s: float
    is_mlperf: bool
    folder: Path


@dataclass(frozen=True)
class Scenario:
    """One MLPerf scenario with LoadGen's verdict and numbers.

    Latencies run from the scheduled time of a query to its completion. A number that the run does not support is None,
    and `reasons` says why. `p90_ms` and `p99_ms` are LoadGen's early-stopping estimates; in the server scenario
    `p99_ms` is LoadGen's percentile of a VALID run. `samples_per_second` is the rate of completed samples (offline,
    server). A batch holds the waiting samples, at most `batch_limit`, and is padded if it is shorter.
    """

    kind: ClassVar[str] = "scenario"

    scenario: str
    validity: str
    reasons: tuple[str, ...]
    p90_ms: float | None
    p99_ms: float | None
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

    def is_accepted(self, is_mlperf: bool) -> bool:
        """Return whether the test passes: a run by MLPerf's rules must be VALID, a short one may have any verdict."""
        return self.validity == "VALID" or not is_mlperf


class Samples:
    """The sample library: normalised images, fp32 [3, h, w], in host memory."""

    def __init__(self, fetch: Fetch, total: int, loaded: int) -> None:
        """Create the library without loading any image.

        Args:
            fetch: returns the images with these indices.
            total: the number of images.
            loaded: the number of images that are held in memory during a performance run.
        """
        self._fetch = fetch
        self._held: dict[int, torch.Tensor] = {}
        self.library = Library(total, loaded, self._load, self._unload)

    def _load(self, indices: Sequence[int]) -> None:
        wanted = sorted(set(indices) - self._held.keys())
        self._held.update(zip(wanted, self._fetch(wanted), strict=True))

    def _unload(self, indices: Sequence[int]) -> None:
        for index in set(indices):
            self._held.pop(index, None)

    def batch(self, indices: Sequence[int], size: int) -> torch.Tensor:
        """Return these images as one batch, padded to `size` with copies of the first one."""
        images = [self._held[index] for index in indices]
        return torch.stack(images + images[:1] * (size - len(images)))


class RunnerUnderTest:
    """A runner that answers LoadGen's samples with their classes."""

    def __init__(self, runner: Runner, task: Task, images: Samples, batch: int, *, is_queued: bool) -> None:
        """Use this runner and these samples.

        With `is_queued`, samples wait until `work` answers them on the thread that built the runner; otherwise `issue`
        answers them at once.
        """
        self._runner = runner
        self._task = task
        self._images = images
        self._batch = batch
        self._waiting: queue.SimpleQueue[tuple[int, int, Respond]] = queue.SimpleQueue()
        self._is_queued = is_queued
        self.batches = 0

    def issue(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """See `SystemUnderTest.issue`."""
        if self._is_queued:
            for pair in zip(ids, indices, strict=True):
                self._waiting.put((*pair, respond))
            return
        for at in range(0, len(ids), self._batch):
            self._answer(ids[at : at + self._batch], indices[at : at + self._batch], respond)

    def work(self, is_over: threading.Event) -> None:
        """See `SystemUnderTest.work`."""
        while not is_over.is_set():
            try:
                taken = [self._waiting.get(timeout=0.05)]
            except queue.Empty:
                continue
            while len(taken) < self._batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            self._answer([one[0] for one in taken], [one[1] for one in taken], taken[0][2])

    def _answer(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """Run one batch from host memory to classes on the host, and respond with the classes."""
        runner = self._runner
        output = runner.submit(runner.put(self._images.batch(indices, self._batch)))
        runner.synchronize()
        classes = np.array(self._task.decode(runner.fetch(output).first(len(ids))), np.int64)
        self.batches += 1
        respond(ids, classes[:, None])


def is_queued(scenario: str) -> bool:
    """Return whether samples are queued and batched: in offline and server they arrive before they can be answered."""
    return scenario in ("offline", "server")


def plan(scenario: str, terms: Terms, batch: int, batch_s: float, library: Library) -> LoadgenSettings:
    """Return the settings of a LoadGen run.

    Args:
        scenario: one of `bridge.SCENARIOS`.
        terms: the durations and the latency bound.
        batch: the number of images in a batch.
        batch_s: the seconds that one batch takes from host memory to its classes.
        library: the samples.
    """
    runs = -(-MULTI_STREAM_SAMPLES // batch) if scenario == "multi_stream" else 1
    rate = batch / batch_s
    least = LEAST_QUERIES[scenario] if terms.is_mlperf else 1
    if scenario == "offline":
        # offline is one query that has to last for the whole run, so expect a tenth more than the measured rate
        rate *= 1.1
        least = max(least, min(MLPERF_OFFLINE_SAMPLES, library.total) if terms.is_mlperf else batch)
    return LoadgenSettings(
        scenario,
        min_s=terms.min_s,
        max_s=terms.max_s,
        min_queries=least,
        # LoadGen draws as many queries ahead as fit into the duration; half the time, so that they are not used up
        expected_s=runs * batch_s / 2,
        rate=rate,
        bound_s=terms.bound_s,
    )


def answer_time(runner: Runner, task: Task, images: Samples, batch: int) -> float:
    """Return the seconds from a batch in host memory to its answers on the host, as the median of a few batches."""
    indices = list(range(min(batch, images.library.total)))
    images.library.load(indices)
    times_s = []
    for _ in range(CALIBRATION_BATCHES):
        began = perf_counter()
        output = runner.submit(runner.put(images.batch(indices, batch)))
        runner.synchronize()
        task.decode(runner.fetch(output))
        times_s.append(perf_counter() - began)
    images.library.unload(indices)
    return statistics.median(times_s)


def run_scenario(
    scenario: str, runner: Runner, task: Task, batch: int, images: Samples, terms: Terms, report: ReportPhase
) -> Scenario:
    """Run one scenario, with its logs in the folder of the terms. For server, the highest valid rate is found first."""
    load = plan(scenario, terms, batch, answer_time(runner, task, images, batch), images.library)
    sut = RunnerUnderTest(runner, task, images, batch, is_queued=is_queued(scenario))

    def run(one: LoadgenSettings, name: str) -> LoadgenVerdict:
        report(f"{scenario}: {name}")
        return run_load(one, sut, images.library, terms.folder / name)

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
    p99_ns = estimate if load.scenario == "multi_stream" else 0
    if load.scenario == "server" and counts:
        p99_ns = values["result_99.00_percentile_latency_ns"]
    return Scenario(
        scenario=load.scenario,
        validity=verdict.validity,
        reasons=verdict.reasons,
        p90_ms=estimate / 1e6 if load.scenario == "single_stream" and estimate else None,
        p99_ms=p99_ns / 1e6 if p99_ns else None,
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
    """
    found: list[Scenario] = []
    batch, task = prepared.case.images, task_of(prepared.spec)
    timed(
        "scenario",
        lambda: found.append(run_scenario(scenario, prepared.runner, task, batch, images, terms, report)),
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
    answers = read_answers(verdict.folder)
    return {index: int(np.frombuffer(found[0], np.int64)[0]) for index, found in answers.items()}
