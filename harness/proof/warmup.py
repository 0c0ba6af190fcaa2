"""Warming up a runner until its rounds no longer get faster or slower."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from harness.engines import Runner

WARMUP_LEAST_S = 0.5  # caches, clocks and thread pools need time rather than rounds to settle
WARMUP_CAP_S = 10.0
WARMUP_CAP_ROUNDS = 2000
STEADY_PCT = 5.0
SPAN = 3


def warm_up(runner: Runner, batches: Sequence[Any]) -> list[float]:
    """Run two batches at least, until the rounds are steady or a cap is reached. Returns each round's seconds."""
    rounds_s: list[float] = []
    elapsed_s = 0.0
    while len(rounds_s) < 2 or (len(rounds_s) < WARMUP_CAP_ROUNDS and elapsed_s < WARMUP_CAP_S):
        if elapsed_s >= WARMUP_LEAST_S and is_steady(rounds_s):
            break
        began = perf_counter()
        runner.submit(batches[len(rounds_s) % len(batches)])
        runner.synchronize()
        rounds_s.append(perf_counter() - began)
        elapsed_s += rounds_s[-1]
    return rounds_s


def is_steady(rounds_s: Sequence[float]) -> bool:
    """Return whether rounds got neither faster nor slower by more than 5%.

    The median of the last three is compared with that of the three before. Where rounds are so long that there is no
    time for six, the later half is compared with the one before, with at least one round in each.
    """
    span = SPAN
    if len(rounds_s) < 2 * SPAN and sum(rounds_s) >= WARMUP_CAP_S:
        span = len(rounds_s) // 2
    if not span or len(rounds_s) < 2 * span:
        return False
    before = statistics.median(rounds_s[-2 * span : -span])
    latest = statistics.median(rounds_s[-span:])
    return abs(latest / before - 1) <= STEADY_PCT / 100
