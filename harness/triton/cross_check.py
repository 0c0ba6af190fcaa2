"""Compares this suite's closed loop with NVIDIA's perf_analyzer, in turns, on the same server under the same load."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.measure.clock import TimedRounds
from harness.measure.percentiles import percentile
from harness.triton.clients import Traffic
from harness.triton.closed_loop import Clients
from harness.triton.host import ServedModel
from harness.triton.perf_analyzer import TRIALS, NoMeasurement, Opinion, ask_perf_analyzer

AGREEMENT_PCT = 5.0
PAIRS = 5
# perf_analyzer gives up if nothing is answered in one of its windows, as when a machine stalls for a moment. At least
# this many pairs must have been measured by both.
LEAST_PAIRS = 3
# perf_analyzer counts what was answered within its windows: with too few requests in a window, where the window begins
# and ends decides the number.
WINDOW_REQUESTS = 16
LEAST_WINDOW_S, MOST_WINDOW_S = 0.5, 1.5


@dataclass(frozen=True)
class CrossCheck:
    """A comparison of this suite's closed loop with perf_analyzer, in turns, on the same server under the same load.

    Each ratio is this suite's number over perf_analyzer's. It is the median of the pairs, with the lowest and the
    highest pair beside it. A pair that perf_analyzer did not measure is counted but not compared.
    """

    kind: ClassVar[str] = "cross_check"

    protocol: str
    mode: str
    clients: int
    pairs: int
    unmeasured_pairs: int
    images_per_second: float
    perf_analyzer_images_per_second: float
    p50_ms: float
    perf_analyzer_p50_ms: float
    throughput_ratio: float
    throughput_ratio_range: tuple[float, float]
    p50_ratio: float
    p50_ratio_range: tuple[float, float]
    verdict: str


class Disagreement(AssertionError):
    """Every pair of measurements shows the two further apart than the agreement allows."""


def cross_check(served: ServedModel, traffic: Traffic, program: Path, scratch: Path, timed: TimedRounds) -> CrossCheck:
    """Measure pairs of short loads, one by each of the two, and compare them pair by pair.

    Raises:
        RequestsFailed: if a request of this suite failed.
        NoMeasurement: if perf_analyzer measured nothing in too many of the pairs.
    """
    ours: list[Opinion] = []
    theirs: list[Opinion] = []
    refusals: list[NoMeasurement] = []

    def pair() -> None:
        with Clients(traffic, served.server, served.target, served.batches) as clients:
            warm = clients.run(lambda sent, s: sent < 2 * traffic.clients)
            wanted_s = WINDOW_REQUESTS * warm.wall_s / len(warm.requests)
            window_s = min(MOST_WINDOW_S, max(LEAST_WINDOW_S, wanted_s))
            load = clients.run(lambda sent, s: s < TRIALS * window_s)
        served.require_own_answers(load.answers())
        try:
            theirs.append(
                ask_perf_analyzer(program, served.server, served.target, traffic, served.case.batch, window_s, scratch)
            )
        except NoMeasurement as refusal:
            refusals.append(refusal)
            return
        ours.append(Opinion(len(load.requests) / load.wall_s, percentile(load.latencies_s(), 50) * 1e3))

    def next_pair(elapsed_s: float) -> tuple[()] | None:
        """Return no arguments for one more pair, None once there are all, or too many without a measurement."""
        is_hopeless = len(refusals) > PAIRS - LEAST_PAIRS
        return None if is_hopeless or len(ours) + len(refusals) >= PAIRS else ()

    timed("cross-check", pair, next_pair)
    if len(ours) < LEAST_PAIRS:
        raise refusals[-1]
    return compare(ours, theirs, traffic, served.case.batch, len(refusals))


def compare(
    ours: Sequence[Opinion], theirs: Sequence[Opinion], traffic: Traffic, batch: int, unmeasured: int = 0
) -> CrossCheck:
    """Return the comparison of the measured pairs. `unmeasured` counts those that perf_analyzer did not measure."""
    rates = [mine.requests_per_second / other.requests_per_second for mine, other in zip(ours, theirs, strict=True)]
    medians = [mine.p50_ms / other.p50_ms for mine, other in zip(ours, theirs, strict=True)]
    return CrossCheck(
        protocol=traffic.protocol,
        mode=traffic.mode,
        clients=traffic.clients,
        pairs=len(ours),
        unmeasured_pairs=unmeasured,
        images_per_second=batch * statistics.median(one.requests_per_second for one in ours),
        perf_analyzer_images_per_second=batch * statistics.median(one.requests_per_second for one in theirs),
        p50_ms=statistics.median(one.p50_ms for one in ours),
        perf_analyzer_p50_ms=statistics.median(one.p50_ms for one in theirs),
        throughput_ratio=statistics.median(rates),
        throughput_ratio_range=(min(rates), max(rates)),
        p50_ratio=statistics.median(medians),
        p50_ratio_range=(min(medians), max(medians)),
        verdict=verdict_of(rates, medians),
    )


def verdict_of(*ratios: Sequence[float]) -> str:
    """Return `agree`, `differ` or `cannot tell` for the ratios of all pairs.

    The verdict is `agree` if the median of every ratio is within 5% of 1, and `differ` if all pairs of one ratio lie
    beyond that bound on the same side. Otherwise the pairs scatter across the bound and the verdict is `cannot tell`,
    as happens on a machine that others use too.
    """
    bound = AGREEMENT_PCT / 100
    if any(min(found) > 1 + bound or max(found) < 1 - bound for found in ratios):
        return "differ"
    return "agree" if all(abs(statistics.median(found) - 1) <= bound for found in ratios) else "cannot tell"


def require_no_disagreement(check: CrossCheck) -> None:
    """Raise an error if the two differ.

    Raises:
        Disagreement: if the verdict is `differ`; the message has the numbers of both.
    """
    if check.verdict == "differ":
        raise Disagreement(
            f"perf_analyzer measured {check.perf_analyzer_images_per_second:.1f} images/s and a p50 of "
            f"{check.perf_analyzer_p50_ms:.2f} ms, this suite {check.images_per_second:.1f} and {check.p50_ms:.2f} ms: "
            f"more than {AGREEMENT_PCT:.0f}% apart in every one of {check.pairs} pairs"
        )
