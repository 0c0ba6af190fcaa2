"""Percentiles, and how many rounds one needs before it may be printed. Seconds come in; milliseconds leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.99
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Percentiles:
    """What every measurement of rounds has; one that too few rounds support is None."""

    p50_ms: float | None
    p50_missing_rounds: int
    p90_ms: float | None
    p90_missing_rounds: int
    p99_ms: float | None
    p99_missing_rounds: int


def least_rounds(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Rounds that a percentile needs before it may be printed.

    The early-stopping rule of MLPerf LoadGen with tolerance 0 and one value above the percentile: the least n for
    which a binomial with success probability p gives n or n-1 successes with probability at most 1 - confidence.

    Args:
        percentile: in percent, between 0 and 100.
        confidence: probability that the percentile is not above the highest round.

    Source: MLPerf inference rules, "Early Stopping Criterion"; 64 rounds for p90, 662 for p99.
    """
    p = percentile / 100
    n = 2
    while p**n + n * p ** (n - 1) * (1 - p) > 1 - confidence:
        n += 1
    return n


def percentile(rounds_s: Sequence[float], percent: float) -> float:
    """The smallest round that at least `percent` of the rounds do not exceed (nearest rank), in seconds."""
    ordered = sorted(rounds_s)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def percentiles_ms(rounds_s: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p90 and p99 in milliseconds; None where too few rounds support one, with how many are missing."""
    found: dict[str, float | int | None] = {}
    for percent in PERCENTILES:
        missing = max(0, least_rounds(percent) - len(rounds_s))
        found[f"p{percent}_ms"] = None if missing else percentile(rounds_s, percent) * 1e3
        found[f"p{percent}_missing_rounds"] = missing
    return found
