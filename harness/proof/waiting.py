"""The check that `synchronize` really waits: a clock that stops before the work is done measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from harness.engines import Runner


def pending_pct(runner: Runner, batches: Sequence[Any], rounds: int = 5) -> float:
    """Return the percentage of a step's time that passed after `synchronize` had returned, as a median of the rounds.

    Fetching needs the finished output. The time by which the first fetch exceeds a second fetch of the same output is
    time for which `synchronize` should have waited.
    """
    shares = []
    for index in range(rounds):
        began = perf_counter()
        output = runner.submit(batches[index % len(batches)])
        runner.synchronize()
        synchronised = perf_counter()
        runner.fetch(output)
        fetched = perf_counter()
        runner.fetch(output)
        again = perf_counter()
        pending = max(0.0, (fetched - synchronised) - (again - fetched))
        shares.append(100 * pending / (fetched - began))
    return statistics.median(shares)
