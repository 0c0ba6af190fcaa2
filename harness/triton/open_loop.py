"""An open loop: MLPerf LoadGen sends requests at random times, whether or not earlier ones have been answered.

LoadGen's server scenario draws the times from a Poisson process. Latency is measured from the scheduled time of a
request until its answer is decoded. One gRPC client carries all requests, with any number of them open at a time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.cases import Duration
from harness.measure.clock import TimedRounds
from harness.measure.loadgen.bridge import Library, LoadgenSettings, Respond, run_load
from harness.measure.loadgen.log import LoadgenVerdict
from harness.measure.loadgen.scenarios import Scenario, find_rate
from harness.measure.percentiles import PERCENTILES, Percentiles, least_rounds
from harness.triton.clients import CHANNEL, DEADLINE_S, RequestFailed, Traffic, answer_of, request_of
from harness.triton.closed_loop import TROUBLE_S, Clients, RequestsFailed
from harness.triton.host import ServedModel
from harness.triton.readings import statistics
from harness.triton.served import require_counted, settled_statistics
from models.tasks.classify import Logits

# The rate if none is given, as a share of the rate of a closed loop of eight clients.
DEFAULT_SHARE = 0.5
# By so much fewer requests than were sent may be answered a second, where a run ends before the last ones are.
BEHIND_SHARE = 0.1
CLOSED_S = 1.0
# LoadGen breaks a run off when as many requests are open as are sent in two seconds, or in ten times this bound if that
# is longer: the server cannot keep up, or has gone.
BOUND_S = 0.2


class TooFast(AssertionError):
    """Requests arrive faster than the server answers them, so that they wait longer and longer as the run goes on."""


@dataclass(frozen=True)
class OpenLoop(Percentiles):
    """Requests at random times of a given mean rate, each from its scheduled time until its answer is decoded.

    A round is a request. All times are MLPerf LoadGen's own. A percentile that too few requests support is None. The
    worst answer has to reach `sqnr_floor_db`, that of the precision.
    """

    kind: ClassVar[str] = "open_loop"

    protocol: str
    rate_per_second: float
    images_per_second: float
    mean_ms: float
    min_ms: float
    max_ms: float
    rounds: int
    images: int
    answers_sqnr_db: float
    sqnr_floor_db: float
    mean_batch: float
    server_queue_ms: float
    server_compute_ms: float
    loadgen: str
    logs: str


def is_behind(done_per_s: float, rate_per_s: float, requests: int) -> bool:
    """Return whether requests were answered so much slower than they were sent that they queued up.

    A tenth is allowed, and three standard deviations of a Poisson process of so many requests.
    """
    return done_per_s < rate_per_s * (1 - BEHIND_SHARE - 3 / math.sqrt(max(requests, 1)))


class ServerUnderTest:
    """A served model as LoadGen's system under test. It is a context manager that closes the connection at its end."""

    def __init__(self, served: ServedModel) -> None:
        """Prepare the connection; nothing is sent yet."""
        import tritonclient.grpc as module

        self._module = module
        self._served = served
        self._client = module.InferenceServerClient(served.server.endpoint.grpc, channel_args=CHANNEL)
        self._outputs = [module.InferRequestedOutput(name) for name in served.target.outputs]
        self._failed = threading.Event()
        self.failure: RequestFailed | None = None
        self.answered: list[tuple[int, Logits]] = []

    def issue(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """See `SystemUnderTest.issue`."""
        for one, index in zip(ids, indices, strict=True):
            self._client.async_infer(
                self._served.name,
                [request_of(self._module, self._served.target, self._served.batches[index])],
                self._on_answer(one, index, respond),
                outputs=self._outputs,
                client_timeout=DEADLINE_S,
            )

    def work(self, is_over: threading.Event) -> None:
        """See `SystemUnderTest.work`. It only waits, because answers arrive on the client's own thread."""
        while not is_over.wait(0.02):
            if self._failed.is_set():
                raise self.failure or RequestFailed("a request failed")

    def _on_answer(self, one: int, index: int, respond: Respond) -> Callable[[Any, Any], None]:
        def take(result: Any, error: Any) -> None:
            try:
                if error is not None:
                    raise RequestFailed(str(error))
                self.answered.append((index, answer_of(result, self._served.target)))
            except RequestFailed as failed:
                self.failure = self.failure or failed
                self._failed.set()
            else:
                respond([one], None)

        return take

    def library(self) -> Library:
        """Return the library of requests, all of which are in memory already."""
        count = len(self._served.batches)
        return Library(count, count, lambda indices: None, lambda indices: None)

    def __enter__(self) -> ServerUnderTest:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def closed_rate(served: ServedModel) -> tuple[float, int]:
    """Return how many requests per second a closed loop of eight clients gets answered, and how many it sent."""
    with Clients(Traffic("grpc", "sync", 8), served.server, served.target, served.batches) as clients:
        load = clients.run(lambda sent, s: s < CLOSED_S or sent < 16)
    return len(load.requests) / load.wall_s, len(load.requests)


def measure_open_loop(
    served: ServedModel, rate: float | None, duration: Duration, folder: Path, timed: TimedRounds
) -> OpenLoop | None:
    """Send requests at one rate, and compare every answer with the model's own.

    Args:
        served: the served model.
        rate: requests per second, None for half of what a closed loop gets.
        duration: the least and the most seconds, and the least number of requests.
        folder: the folder for LoadGen's logs.
        timed: the clock.

    Returns:
        The measurement, or None if timing is switched off.

    Raises:
        RequestsFailed: if a request was not answered.
        TooFast: if the server cannot keep up with the rate.
        WrongAnswers: if an answer is not the model's own.
    """
    before = settled_statistics(served, statistics(served.server, served.name), 0)
    if rate is None:
        closed, sent = closed_rate(served)
        rate = DEFAULT_SHARE * closed
        before = settled_statistics(served, before, sent)
    load = LoadgenSettings(
        "server",
        min_s=duration.min_s,
        max_s=duration.max_s,
        min_queries=duration.min_rounds,
        rate=rate,
        bound_s=BOUND_S,
    )
    verdicts: list[LoadgenVerdict] = []
    with ServerUnderTest(served) as sut:
        rounds_s = timed(
            "open loop",
            lambda: verdicts.append(_run(load, sut, served, folder)),
            lambda elapsed_s: None if verdicts else (),
            lambda: [max(len(sut.answered), 1)],
        )
    counted = settled_statistics(served, before, len(sut.answered)).since(before)
    answers_db = require_answered(served, sut.answered)
    require_counted(served, len(sut.answered), counted)
    if not rounds_s:
        return None
    values = dict(verdicts[0].values)
    done_per_s, sent = float(values["result_completed_samples_per_sec"]), len(sut.answered)
    is_broken_off = not values["result_min_duration_met"] and (
        duration.max_s is None or duration.max_s >= duration.min_s
    )
    if is_broken_off or is_behind(done_per_s, rate, sent):
        raise TooFast(
            f"{served.case}: {rate:.1f} requests a second are more than the server answers: of {sent} it answered "
            f"{done_per_s:.1f} a second{', and LoadGen broke the run off' * is_broken_off}. Give a lower --rate"
        )
    found: dict[str, Any] = {}
    for percent in PERCENTILES:
        missing = max(0, least_rounds(percent) - len(sut.answered))
        found[f"p{percent}_ms"] = None if missing else values[f"result_{percent:.2f}_percentile_latency_ns"] / 1e6
        found[f"p{percent}_missing_rounds"] = missing
    return OpenLoop(
        protocol="grpc",
        rate_per_second=rate,
        images_per_second=float(values["result_completed_samples_per_sec"]) * served.case.batch,
        **found,
        mean_ms=values["result_mean_latency_ns"] / 1e6,
        min_ms=values["result_min_latency_ns"] / 1e6,
        max_ms=values["result_max_latency_ns"] / 1e6,
        rounds=len(sut.answered),
        images=len(sut.answered) * served.case.batch,
        answers_sqnr_db=answers_db,
        sqnr_floor_db=served.floor_db,
        mean_batch=counted.images / counted.executions,
        server_queue_ms=counted.mean_ms("queue"),
        server_compute_ms=counted.mean_ms("compute"),
        loadgen=str(values["loadgen_version"]),
        logs=str(verdicts[0].folder),
    )


def _run(load: LoadgenSettings, sut: ServerUnderTest, served: ServedModel, folder: Path) -> LoadgenVerdict:
    """Run LoadGen once.

    Raises:
        RequestsFailed: if a request was not answered; the message says what has become of the server.
    """
    try:
        return run_load(load, sut, sut.library(), folder)
    except RequestFailed as failed:
        trouble = served.server.trouble(patience_s=TROUBLE_S)
        raise RequestsFailed(f"a request failed: {failed}" + (f"\n{trouble}" if trouble else "")) from None


def require_answered(served: ServedModel, answered: Sequence[tuple[int, Logits]]) -> float:
    """Return the worst of these answers in dB; see `ServedModel.require_own_answers`."""
    return served.require_own_answers([answer for _, answer in answered], [index for index, _ in answered])


def find_highest_rate(
    served: ServedModel, bound_s: float, least_s: float, folder: Path, timed: TimedRounds
) -> Scenario:
    """Find the highest rate at which the p99 latency keeps to a bound, by LoadGen's own search and verdict.

    Args:
        served: the served model.
        bound_s: the latency in seconds that 99% of the requests must keep to, counted from their scheduled times.
        least_s: the least duration in seconds of the run that confirms the rate.
        folder: the folder for LoadGen's logs.
        timed: the clock.
    """
    rate, _ = closed_rate(served)
    load = LoadgenSettings("server", min_s=least_s, min_queries=1, rate=rate, bound_s=bound_s)
    found: list[Scenario] = []
    with ServerUnderTest(served) as sut:

        def run(one: LoadgenSettings, name: str) -> LoadgenVerdict:
            return _run(one, sut, served, folder / name)

        timed(
            "highest rate",
            lambda: found.append(find_rate(load, run, served.exported.artefact.max_batch)),
            lambda elapsed_s: None if found else (),
        )
        require_answered(served, sut.answered)
    return found[0]
