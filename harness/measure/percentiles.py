"""Percentiles in milliseconds of rounds in seconds, and the number of rounds that a percentile needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.99
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Percentiles:
    """The percentiles of a measurement. A percentile is None if there are too few rounds, with how many are missing."""

    p50_ms: float | None
    p50_missing_rounds: int
    p90_ms: float | None
    p90_missing_rounds: int
    p99_ms: float | None
    p99_missing_rounds: int


def least_rounds(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the number of rounds that a percentile needs before it may be printed.

    This is the early-stopping rule of MLPerf LoadGen with tolerance 0 and one value above the percentile: the least n
    for which a binomial with success probability p gives n or n-1 successes with probability at most 1 - confidence.

    Args:
        percentile: the percentile in percent, between 0 and 100.
        confidence: the confidence of the estimate, between 0 and 1.

    Source: MLPerf inference rules, "Early Stopping Criterion"; 64 rounds for p90, 662 for p99.
    """
    p = percentile / 100
    n = 2
    while p**n + n * p ** (n - 1) * (1 - p) > 1 - confidence:
        n += 1
    return n


def percentile(rounds_s: Sequence[float], percent: float) -> float:
    """Return the smallest round, in seconds, that at least `percent` of the rounds do not exceed (nearest rank)."""
    ordered = sorted(rounds_s)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def percentiles_ms(rounds_s: Sequence[float]) -> dict[str, float | int | None]:
    """Return the fields of `Percentiles`: p50, p90 and p99 in milliseconds or None, and how many rounds are missing."""
    found: dict[str, float | int | None] = {}
    for percent in PERCENTILES:
        missing = max(0, least_rounds(percent) - len(rounds_s))
        found[f"p{percent}_ms"] = None if missing else percentile(rounds_s, percent) * 1e3
        found[f"p{percent}_missing_rounds"] = missing
    return found
