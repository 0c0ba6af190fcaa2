"""Warming up a runner until its rounds no longer get faster."""

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
    """Run batches until the rounds no longer get faster or a cap is reached. Returns each round's time in seconds."""
    rounds_s: list[float] = []
    elapsed_s = 0.0
    while len(rounds_s) < WARMUP_CAP_ROUNDS and elapsed_s < WARMUP_CAP_S:
        if elapsed_s >= WARMUP_LEAST_S and is_steady(rounds_s):
            break
        began = perf_counter()
        runner.submit(batches[len(rounds_s) % len(batches)])
        runner.synchronize()
        rounds_s.append(perf_counter() - began)
        elapsed_s += rounds_s[-1]
    return rounds_s


def is_steady(rounds_s: Sequence[float]) -> bool:
    """Return whether rounds no longer get faster: the median of the last three is at least 95% of the three before."""
    if len(rounds_s) < 2 * SPAN:
        return False
    before = statistics.median(rounds_s[-2 * SPAN : -SPAN])
    latest = statistics.median(rounds_s[-SPAN:])
    return latest >= before * (1 - STEADY_PCT / 100)
