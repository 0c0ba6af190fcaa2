"""Measures what clients get from a server in a closed loop, beside what the server itself counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.cases import Duration, wants_more
from harness.measure.clock import TimedRounds
from harness.measure.percentiles import Percentiles, percentiles_ms
from harness.proof import Contradiction
from harness.triton.clients import Traffic
from harness.triton.closed_loop import Clients, ClosedLoop
from harness.triton.host import ServedModel
from harness.triton.readings import Statistics, statistics
from models.tasks.classify import Logits

WARMUP_S = 0.2
WARMUP_REQUESTS = 1  # per client, which suffices to connect; the model itself is warm by then
# The server counts a request a moment after it has answered it.
SETTLE_S = 5.0
# So long it counts nothing before its count is believed.
QUIET_S = 0.05


@dataclass(frozen=True)
class Served(Percentiles):
    """A closed loop of clients on a server: each request from when its client is free until its answer is decoded.

    A round is a request. `images_per_second` is the images answered to all clients together over the wall time.
    `mean_concurrency` is the mean number of requests that were open; it is below the number of clients where they began
    or ended apart, and where the machine kept them from asking, and the rate is lower by as much. The
    server's own times are means per request, from its statistics. `mean_batch` is the mean number of images per
    execution, that is, in the batches that the server formed. `answers_sqnr_db` is the signal-to-noise ratio of the
    worst answer, which has to reach `sqnr_floor_db`, that of the precision. `client_cpu_ms` and `server_cpu_ms` are the
    processor time an image takes in this process and in those of the server with the model, over all their threads; the
    server's is None where it was not started here.
    """

    kind: ClassVar[str] = "served"

    protocol: str
    mode: str
    clients: int
    images_per_second: float
    mean_ms: float
    min_ms: float
    max_ms: float
    rounds: int
    images: int
    wall_s: float
    mean_concurrency: float
    answers_sqnr_db: float
    sqnr_floor_db: float
    mean_batch: float
    executions: int
    server_queue_ms: float
    server_input_ms: float
    server_compute_ms: float
    server_output_ms: float
    client_cpu_ms: float
    server_cpu_ms: float | None
    rounds_ms: tuple[float, ...]

    @classmethod
    def of(
        cls,
        rounds_s: Sequence[float],
        wall_s: float,
        *,
        batch: int,
        protocol: str,
        mode: str,
        clients: int,
        answers_db: float,
        floor_db: float,
        executions: int,
        server_ms: Mapping[str, float],
        client_cpu_s: float,
        server_cpu_s: float | None,
    ) -> Served:
        """Return the measurement for each request's seconds, the wall time of all and what the server counted.

        The requests are in the order in which they were issued.
        """
        images = len(rounds_s) * batch
        return cls(
            protocol=protocol,
            mode=mode,
            clients=clients,
            images_per_second=images / wall_s,
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            mean_ms=sum(rounds_s) / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            rounds=len(rounds_s),
            images=images,
            wall_s=wall_s,
            mean_concurrency=sum(rounds_s) / wall_s,
            answers_sqnr_db=answers_db,
            sqnr_floor_db=floor_db,
            mean_batch=images / executions,
            executions=executions,
            server_queue_ms=server_ms["queue"],
            server_input_ms=server_ms["input"],
            server_compute_ms=server_ms["compute"],
            server_output_ms=server_ms["output"],
            client_cpu_ms=client_cpu_s / images * 1e3,
            server_cpu_ms=None if server_cpu_s is None else server_cpu_s / images * 1e3,
            rounds_ms=tuple(round(seconds * 1e3, 3) for seconds in rounds_s),
        )


def measure_served(served: ServedModel, traffic: Traffic, duration: Duration, timed: TimedRounds) -> Served | None:
    """Measure a closed loop, with every answer compared with the model's own.

    Every request is also looked for in the server's statistics.

    Returns:
        The measurement, or None if timing is switched off.

    Raises:
        RequestsFailed: if a request failed, so that nothing is a measurement.
        WrongAnswers: if an answer is not the model's own to its image.
        Contradiction: if the server counted other requests than these.
    """
    loads: list[ClosedLoop] = []
    cpu_s: list[tuple[float, float | None]] = []

    def load() -> None:
        server_before_s, client_before_s = served.server.processor_s(), time.process_time()
        loads.append(clients.run(lambda sent, s: wants_more(duration, sent, s)))
        client_s, server_s = time.process_time() - client_before_s, served.server.processor_s()
        cpu_s.append((client_s, None if server_s is None or server_before_s is None else server_s - server_before_s))

    with Clients(traffic, served.server, served.target, served.batches) as clients:
        before = statistics(served.server, served.name)
        warm = clients.run(lambda sent, s: sent < WARMUP_REQUESTS * traffic.clients or s < WARMUP_S)
        before = settled_statistics(served, before, len(warm.requests))
        rounds_s = timed(
            "served", load, lambda elapsed_s: None if loads else (), lambda: [len(one.requests) for one in loads]
        )
        after = settled_statistics(served, before, len(loads[0].requests))
    answers_db = served.require_own_answers(loads[0].answers())
    counted = after.since(before)
    require_counted(served, len(loads[0].requests), counted)
    if not rounds_s:
        return None
    return Served.of(
        loads[0].latencies_s(),
        loads[0].wall_s,
        batch=served.case.batch,
        protocol=traffic.protocol,
        mode=traffic.mode,
        clients=traffic.clients,
        answers_db=answers_db,
        floor_db=served.floor_db,
        executions=counted.executions,
        server_ms={part: counted.mean_ms(part) for part in ("queue", "input", "compute", "output")},
        client_cpu_s=cpu_s[0][0],
        server_cpu_s=cpu_s[0][1],
    )


def ask_once(served: ServedModel, traffic: Traffic) -> list[Logits]:
    """Send one request for each of the batches, and return the answers in the same order.

    Raises:
        RequestsFailed: if a request failed.
    """
    with Clients(traffic, served.server, served.target, served.batches) as clients:
        return clients.run(lambda sent, s: sent < len(served.batches)).answers()


def ask_first(served: ServedModel) -> list[Logits]:
    """Send the first batch alone, and return a list of its one answer.

    Raises:
        RequestsFailed: if the request failed.
    """
    with Clients(Traffic("grpc", "sync", 1), served.server, served.target, served.batches) as clients:
        return clients.run(lambda sent, s: sent < 1).answers()


def settled_statistics(served: ServedModel, before: Statistics, requests: int) -> Statistics:
    """Return the server's statistics once it has counted that many requests since `before` and counts no more.

    The server counts a request a moment after its answer, and later on a busy machine. What it counts first may be
    requests from before: read too early, the count lacks one of ours, which then turns up in the next.
    """
    until = time.monotonic() + SETTLE_S
    last, since = statistics(served.server, served.name), time.monotonic()
    while time.monotonic() < until:
        time.sleep(0.005)
        now = statistics(served.server, served.name)
        if now != last:
            last, since = now, time.monotonic()
        elif now.since(before).requests >= requests and time.monotonic() - since >= QUIET_S:
            break
    return last


def require_counted(served: ServedModel, requests: int, counted: Statistics) -> None:
    """Compare what the clients got with what the server counted.

    Raises:
        Contradiction: if they differ, because somebody else asks too or answers come from elsewhere.
    """
    images = requests * served.case.batch
    if (counted.requests, counted.images) != (requests, images):
        raise Contradiction(
            f"{served.case}: the clients got {requests} answers of {images} images, the server counted "
            f"{counted.requests} of {counted.images}: others ask it too, or answers come from a cache"
        )
