"""The bridge to MLPerf LoadGen, which sends the queries and decides whether a run is valid.

All numbers come from LoadGen's own logs. The system under test may be anything that answers samples by index, such as a
runner in this process or a client of a server. LoadGen is a C++ library that calls back into Python. An exception that
passes through it leaves its log threads running and ends the process. Therefore the bridge holds the first failure,
closes every open query, and raises the failure when the library has returned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.measure.loadgen.conf import LIBRARY_NAMES, Conf, apply_conf, require_official
from harness.measure.loadgen.log import LoadgenVerdict, read_verdict

SCENARIOS = tuple(LIBRARY_NAMES)
MULTI_STREAM_SAMPLES = 8
# LoadGen looks for an audit file in the working directory, which would overrule every setting. It is given the path of
# a file that does not exist instead.
_NO_AUDIT_FILE = "no-audit.config"
LOGS = ("mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_accuracy.json", "mlperf_log_trace.json")
# The interval in seconds at which open queries are checked.
WATCH_S = 0.05
# A server run is ended when the queries of this many seconds are open.
BACKLOG_S = 2.0

AnswerRows = npt.NDArray[Any]


@dataclass(frozen=True)
class LoadgenSettings:
    """The settings of a LoadGen run.

    Attributes:
        scenario: one of `SCENARIOS`.
        min_s: the least duration of the run in seconds.
        min_queries: the least number of queries, or of samples in the offline scenario.
        expected_s: the approximate time of one query in seconds, from which LoadGen derives how many queries it
            draws ahead (single_stream, multi_stream).
        rate: the samples per second that are expected (offline) or sent (server).
        bound_s: the latency in seconds that 99% of the queries must not exceed (server).
        max_s: the time in seconds after which the run ends, or None; LoadGen ignores it in the offline scenario.
        mode: `performance`; `accuracy`, which runs each sample of the library once; or `find_peak`, LoadGen's search
            for the highest rate that meets the bound, upwards from `rate` (server).
        log_answers: how many answers of a performance run LoadGen logs; of an accuracy run it logs all.
        conf: whose part of `mlperf.conf` gives all that is not set here, the seeds above all; None for LoadGen's own
            defaults.
    """

    scenario: str
    min_s: float
    min_queries: int
    expected_s: float = 0.01
    rate: float = 1.0
    bound_s: float = 0.015
    max_s: float | None = None
    mode: str = "performance"
    log_answers: int = 0
    conf: Conf | None = None


@dataclass(frozen=True)
class Library:
    """The samples that queries refer to by index.

    Attributes:
        total: the number of samples.
        loaded: the number of samples that are held in memory during a performance run.
        load: loads the samples with these indices into memory; called outside the timed part.
        unload: releases the samples with these indices.
    """

    total: int
    loaded: int
    load: Callable[[Sequence[int]], None]
    unload: Callable[[Sequence[int]], None]


class Respond(Protocol):
    """The callback that takes answers. It may be called from any thread, and for a part of a query's samples."""

    def __call__(self, ids: Sequence[int], answers: AnswerRows | None) -> None:
        """Report these samples as answered.

        Args:
            ids: the ids of the samples, as `issue` received them.
            answers: an array with one row per sample, for LoadGen's log of answers; None to log no answers.
        """


class SystemUnderTest(Protocol):
    """The system that LoadGen measures."""

    def issue(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """Take the samples of one query. The method may return before they are answered.

        In single_stream and multi_stream it is called on the thread that called `run_load`, otherwise on LoadGen's own
        thread.

        Args:
            ids: the ids of the samples, each of which has to be passed to `respond` exactly once.
            indices: the indices of the samples in the library.
            respond: the callback that takes the answers.
        """

    def work(self, is_over: threading.Event) -> None:
        """Answer queued samples, or just wait, until `is_over` is set.

        In offline and server, the thread that called `run_load` runs this method.
        """


class LoadgenFailed(RuntimeError):
    """The system under test did not answer correctly, or LoadGen cannot run."""


class _Bridge:
    """Stands between LoadGen and the system under test: keeps track of open samples and holds the first failure."""

    def __init__(self, load: LoadgenSettings, sut: SystemUnderTest, answer_within_s: float) -> None:
        import mlperf_loadgen

        self._library = mlperf_loadgen
        self._load = load
        self._sut = sut
        self._answer_within_s = answer_within_s
        self._lock = threading.Lock()
        self._open: dict[int, float] = {}
        self._issued_at = self._progress_at = monotonic()
        self.failure: BaseException | None = None

    def issue(self, ids: list[int], indices: list[int]) -> None:
        now = monotonic()
        with self._lock:
            if not self._open:
                self._progress_at = now
            self._issued_at = now
            self._open.update(dict.fromkeys(ids, now))
        if self.failure is not None:
            if self._load.scenario != "server":  # LoadGen soon uses up the queries that it drew ahead
                self.respond(ids)
            return
        try:
            self._sut.issue(ids, indices, self.respond)
        except BaseException as error:  # noqa: B036 - Ctrl-C too: nothing may pass through LoadGen; run_load raises it
            self.fail(error)

    def respond(self, ids: Sequence[int], answers: AnswerRows | None = None) -> None:
        with self._lock:
            unknown = [one for one in ids if self._open.pop(one, None) is None]
            self._progress_at = monotonic()
        if unknown and self.failure is None:
            raise LoadgenFailed(
                f"{len(unknown)} samples were answered that were not open: answered twice, or never sent"
            )
        closed = [one for one in ids if one not in set(unknown)] if unknown else ids
        response = self._library.QuerySampleResponse
        if answers is None:
            responses = [response(one, 0, 0) for one in closed]
        else:
            rows = np.ascontiguousarray(answers)
            at, size = rows.ctypes.data, rows.nbytes // len(rows)
            responses = [response(one, at + row * size, size) for row, one in enumerate(closed)]
        self._library.QuerySamplesComplete(responses)

    def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error

    def watch(self, is_over: threading.Event) -> None:
        """Fail if nothing is answered for too long. After a failure, close the open samples so that LoadGen ends."""
        while not is_over.wait(WATCH_S):
            now = monotonic()
            with self._lock:
                waited_s = now - self._progress_at if self._open else 0.0
                left = self._to_close(now) if self.failure is not None else []
                count = len(self._open)
            if self.failure is None and waited_s > self._answer_within_s:
                self.fail(
                    LoadgenFailed(
                        f"{count} samples are open and none was answered for {self._answer_within_s:g} s: the system "
                        f"under test hangs or loses answers"
                    )
                )
            if left:
                self.respond(left)

    def _to_close(self, now: float) -> list[int]:
        """Return the open samples to close without an answer after a failure, so that LoadGen ends soon.

        A server run ends once too many samples are open, so none is closed while queries still arrive. In a search,
        each sample must stay open beyond the latency bound, or LoadGen would raise the rate for ever.
        """
        if self._load.scenario != "server":
            return list(self._open)
        if self._load.mode == "find_peak":
            return [one for one, since in self._open.items() if now - since > 3 * self._load.bound_s]
        return list(self._open) if now - self._issued_at > max(1.0, 20 / self._load.rate) else []


def run_load(
    load: LoadgenSettings, sut: SystemUnderTest, library: Library, folder: Path, *, answer_within_s: float = 60.0
) -> LoadgenVerdict:
    """Do one LoadGen run.

    Args:
        load: the settings of the run.
        sut: the system under test.
        library: the samples.
        folder: the folder for LoadGen's logs, which is created if necessary.
        answer_within_s: the run fails if queries are open and none is answered for this many seconds.

    Returns:
        LoadGen's own verdict and numbers, from its detail log.

    Raises:
        LoadgenFailed: answers are missing or doubled, or the logs cannot be written.
        NoVerdict: LoadGen wrote no verdict.
        OtherTerms: the run was to have the seeds of `mlperf.conf`, and its log has others.
        BaseException: any exception that the system under test raised, including KeyboardInterrupt.
    """
    import mlperf_loadgen

    detail = _clear_logs(folder)
    settings = _settings(load, min(library.loaded, library.total))
    bridge = _Bridge(load, sut, answer_within_s)
    logs = mlperf_loadgen.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = str(folder)
    handles = (
        mlperf_loadgen.ConstructFastSUT(bridge.issue, lambda: None),
        mlperf_loadgen.ConstructQSL(
            library.total,
            min(library.loaded, library.total),
            _held(library.load, bridge),
            _held(library.unload, bridge),
        ),
    )
    is_over = threading.Event()

    def start() -> None:
        try:
            mlperf_loadgen.StartTestWithLogSettings(*handles, settings, logs, str(folder / _NO_AUDIT_FILE))
        finally:
            is_over.set()

    watcher = threading.Thread(target=bridge.watch, args=(is_over,), name="loadgen-watch")
    watcher.start()
    try:
        if load.scenario in ("single_stream", "multi_stream"):
            start()
        else:
            _start_beside(start, sut, bridge, is_over)
    finally:
        is_over.set()
        watcher.join()
        mlperf_loadgen.DestroyFastSUT(handles[0])
        mlperf_loadgen.DestroyQSL(handles[1])
    if bridge.failure is not None:
        raise bridge.failure
    verdict = read_verdict(detail)
    if load.conf is not None:
        require_official(verdict.values, load.conf, load.scenario)
    return verdict


def _clear_logs(folder: Path) -> Path:
    """Create the log files, empty. If LoadGen itself failed to create them, it would say nothing, and abort later.

    Returns:
        The path of the detail log.

    Raises:
        LoadgenFailed: the files cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in LOGS:
            (folder / name).write_bytes(b"")
    except OSError as error:
        raise LoadgenFailed(f"LoadGen's logs: {error}; give a folder that can be written with --output-dir") from error
    return folder / LOGS[0]


def _start_beside(start: Callable[[], None], sut: SystemUnderTest, bridge: _Bridge, is_over: threading.Event) -> None:
    """Run LoadGen on a separate thread, while the calling thread runs `sut.work` and receives Ctrl-C."""
    thread = threading.Thread(target=start, name="loadgen")
    thread.start()
    try:
        sut.work(is_over)
        if not is_over.is_set():
            bridge.fail(LoadgenFailed("the system under test stopped working before the run was over"))
    except BaseException as error:  # noqa: B036 - as in issue(): LoadGen has to end first
        bridge.fail(error)
    finally:
        thread.join()


def _held(call: Callable[[Sequence[int]], None], bridge: _Bridge) -> Callable[[list[int]], None]:
    """Wrap a callback so that the bridge holds its failure and LoadGen does not see it."""

    def held(indices: list[int]) -> None:
        try:
            call(indices)
        except BaseException as error:  # noqa: B036 - as in issue()
            bridge.fail(error)

    return held


def _settings(load: LoadgenSettings, loaded: int) -> Any:
    """Return LoadGen's settings for a run with this many samples in memory."""
    import mlperf_loadgen

    modes = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly", "find_peak": "FindPeakPerformance"}
    settings = mlperf_loadgen.TestSettings()
    if load.conf is not None:
        apply_conf(settings, load.conf, load.scenario)
        if settings.performance_sample_count_override > loaded:
            settings.performance_sample_count_override = loaded
    settings.scenario = getattr(mlperf_loadgen.TestScenario, LIBRARY_NAMES[load.scenario])
    settings.mode = getattr(mlperf_loadgen.TestMode, modes[load.mode])
    settings.min_duration_ms = round(load.min_s * 1e3)
    settings.max_duration_ms = 0 if load.max_s is None else max(1, round(load.max_s * 1e3))
    settings.min_query_count = load.min_queries
    expected_ns = max(1, round(load.expected_s * 1e9))
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = expected_ns
    settings.multi_stream_samples_per_query = MULTI_STREAM_SAMPLES
    settings.server_target_qps = settings.offline_expected_qps = load.rate
    settings.server_target_latency_ns = round(load.bound_s * 1e9)
    settings.server_find_peak_qps_decimals_of_precision = 0
    settings.accuracy_log_sampling_target = load.log_answers
    if load.mode == "performance":  # a run with this backlog cannot be valid; also ends one that fails
        settings.server_max_async_queries = max(100, round(load.rate * max(BACKLOG_S, 10 * load.bound_s)))
    return settings
