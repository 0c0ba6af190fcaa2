"""The measurements of serving: what the clients got, beside what the server counted. The clock is handed in."""

from __future__ import annotations

import time

from harness.evidence import Contradiction
from harness.measure import TimedRounds
from harness.rounds import Duration, wants_more
from harness.triton.clients import Logits, Traffic
from harness.triton.control import Statistics, statistics
from harness.triton.load import Clients, Load
from harness.triton.measured import Served as Measured
from harness.triton.serving import Served

WARMUP_S = 0.2
WARMUP_REQUESTS = 1  # a client: what it takes to connect; the model itself is warm by then
# The server counts a request a moment after it has answered it.
SETTLE_S = 5.0


def measure_served(served: Served, traffic: Traffic, duration: Duration, timed: TimedRounds) -> Measured | None:
    """A closed loop: every answer compared with the model's own, every request found in the server's statistics.

    Raises:
        LoadFailed: a request failed; nothing is a measurement.
        WrongAnswers: an answer is not the model's own to its image.
        Contradiction: the server counted other requests than these.
    """
    loads: list[Load] = []
    with Clients(traffic, served.server, served.target, served.batches) as clients:
        before = statistics(served.server, served.name)
        warm = clients.run(lambda sent, s: sent < WARMUP_REQUESTS * traffic.clients or s < WARMUP_S)
        before = settled_statistics(served, before, len(warm.requests))
        rounds_s = timed(
            "served",
            lambda: loads.append(clients.run(lambda sent, s: wants_more(duration, sent, s))),
            lambda elapsed_s: None if loads else (),
        )
        after = settled_statistics(served, before, len(loads[0].requests))
    answers_db = served.require_own_answers(loads[0].answers())
    counted = after.since(before)
    require_counted(served, len(loads[0].requests), counted)
    if not rounds_s:
        return None
    return Measured.of(
        loads[0].latencies_s(),
        loads[0].wall_s,
        batch=served.case.batch,
        protocol=traffic.protocol,
        mode=traffic.mode,
        clients=traffic.clients,
        answers_db=answers_db,
        executions=counted.executions,
        server_ms={part: counted.mean_ms(part) for part in ("queue", "input", "compute", "output")},
    )


def ask_once(served: Served, traffic: Traffic) -> list[Logits]:
    """The answers to one request for each of the batches, in the order asked.

    Raises:
        LoadFailed: a request failed.
    """
    with Clients(traffic, served.server, served.target, served.batches) as clients:
        return clients.run(lambda sent, s: sent < len(served.batches)).answers()


def ask_first(served: Served) -> list[Logits]:
    """The answer to the first request alone.

    Raises:
        LoadFailed: it failed.
    """
    with Clients(Traffic("grpc", "sync", 1), served.server, served.target, served.batches) as clients:
        return clients.run(lambda sent, s: sent < 1).answers()


def settled_statistics(served: Served, before: Statistics, requests: int) -> Statistics:
    """The server's statistics, once it has counted so many requests since `before`, or will not."""
    until = time.monotonic() + SETTLE_S
    while True:
        now = statistics(served.server, served.name)
        if now.since(before).requests >= requests or time.monotonic() > until:
            return now
        time.sleep(0.005)


def require_counted(served: Served, requests: int, counted: Statistics) -> None:
    """Compare what the clients got with what the server says it answered.

    Raises:
        Contradiction: they differ: somebody else asks too, or answers come from elsewhere.
    """
    images = requests * served.case.batch
    if (counted.requests, counted.images) != (requests, images):
        raise Contradiction(
            f"{served.case}: the clients got {requests} answers of {images} images, the server counted "
            f"{counted.requests} of {counted.images}: others ask it too, or answers come from a cache"
        )
