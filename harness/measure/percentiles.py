"""Percentiles of rounds, each a point estimate with its interval, and the number of rounds that a percentile needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

# The confidence of LoadGen's early-stopping rule, and that of the intervals beside our own percentiles.
CONFIDENCE = 0.99
INTERVAL_CONFIDENCE = 0.95
PERCENTILES = (50, 90, 99)
# Into how many blocks the rounds are cut to see how much those that follow each other are alike.
BLOCKS = 10


@dataclass(frozen=True)
class Percentiles:
    """The percentiles of a measurement, in milliseconds, each with the ends of its 95% interval.

    A percentile and its interval are None if there are too few rounds for both ends, and then `missing_rounds` says how
    many more it needs. The ends are None too where only the percentile itself is known, as from LoadGen's log.
    """

    p50_ms: float | None
    p50_missing_rounds: int
    p90_ms: float | None
    p90_missing_rounds: int
    p99_ms: float | None
    p99_missing_rounds: int
    p50_low_ms: float | None = field(default=None, kw_only=True)
    p50_high_ms: float | None = field(default=None, kw_only=True)
    p90_low_ms: float | None = field(default=None, kw_only=True)
    p90_high_ms: float | None = field(default=None, kw_only=True)
    p99_low_ms: float | None = field(default=None, kw_only=True)
    p99_high_ms: float | None = field(default=None, kw_only=True)


def least_rounds(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the number of queries that LoadGen needs before it gives an upper bound of a percentile.

    This is the early-stopping rule of MLPerf LoadGen with tolerance 0 and one value above the percentile: the least n
    for which a binomial with success probability p gives n or n-1 successes with probability at most 1 - confidence.
    The bound is then the second largest value.

    Args:
        percentile: the percentile in percent, between 0 and 100.
        confidence: the confidence of the bound, between 0 and 1.

    Source: MLPerf inference rules, "Early Stopping Criterion"; 64 queries for p90, 662 for p99.
    """
    p = percentile / 100
    n = 2
    while p**n + n * p ** (n - 1) * (1 - p) > 1 - confidence:
        n += 1
    return n


def interval_rounds(percent: float, confidence: float = INTERVAL_CONFIDENCE) -> int:
    """Return the least number of rounds whose order statistics give both ends of a percentile's interval.

    The upper end exists if it is unlikely enough that all rounds lie under the percentile, and the lower end if it is
    unlikely enough that all lie above it: 6 rounds for p50, 36 for p90 and 368 for p99 at 95% confidence.

    Args:
        percent: the percentile in percent, between 0 and 100.
        confidence: the confidence of the interval, between 0 and 1.
    """
    p = percent / 100
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(p, 1 - p)))


def percentile(rounds_s: Sequence[float], percent: float) -> float:
    """Return the smallest round, in seconds, that at least `percent` of the rounds do not exceed (nearest rank)."""
    ordered = sorted(rounds_s)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def interval(
    rounds_s: Sequence[float], percent: float, confidence: float = INTERVAL_CONFIDENCE
) -> tuple[float, float] | None:
    """Return the ends of a percentile's interval in seconds, or None if there are too few rounds for both.

    The ends are order statistics. Their ranks are the wider of two choices: those of the binomial distribution, as
    `scipy.stats.quantile_test` chooses them, which are right for independent rounds; and those of the blocks. Rounds
    that follow each other are alike, because caches, clocks and the load of a machine change slowly, so that a thousand
    of them may say as little as fifty independent ones.

    Args:
        rounds_s: the rounds in the order in which they were measured, in seconds.
        percent: the percentile in percent, between 0 and 100.
        confidence: the confidence of the interval, between 0 and 1.
    """
    from scipy.stats import quantile_test

    if len(rounds_s) < interval_rounds(percent, confidence):
        return None
    low_s, high_s = quantile_test(list(rounds_s), p=percent / 100).confidence_interval(confidence)
    if len(rounds_s) < 2 * BLOCKS:
        return float(low_s), float(high_s)
    low_rank, high_rank = block_ranks(rounds_s, percent, confidence)
    ordered = sorted(rounds_s)
    return min(float(low_s), ordered[low_rank]), max(float(high_s), ordered[high_rank])


def block_ranks(rounds_s: Sequence[float], percent: float, confidence: float = INTERVAL_CONFIDENCE) -> tuple[int, int]:
    """Return the ranks, from 0, of the rounds between which a percentile lies, as far as consecutive blocks tell.

    The rounds are cut into ten consecutive blocks. Each has a share of rounds that do not exceed the percentile, and
    these shares differ the more the longer rounds resemble each other. Their standard error with Student's quantile
    gives the ends on the scale of ranks. What changes more slowly than the whole run, no part of it can show.

    Args:
        rounds_s: at least ten rounds in the order in which they were measured, in seconds.
        percent: the percentile in percent, between 0 and 100.
        confidence: the confidence of the interval, between 0 and 1.

    Source: batch means of the indicator, S. Asmussen and P. Glynn, "Stochastic Simulation" (2007), IV.5 and III.4a.
    """
    from scipy.stats import t

    share, last = percent / 100, len(rounds_s) - 1
    estimate = percentile(rounds_s, percent)
    size = len(rounds_s) / BLOCKS
    blocks = [rounds_s[int(i * size) : int((i + 1) * size)] for i in range(BLOCKS)]
    shares = [statistics.fmean(float(round_s <= estimate) for round_s in block) for block in blocks]
    half = float(t.ppf((1 + confidence) / 2, BLOCKS - 1)) * statistics.stdev(shares) / math.sqrt(BLOCKS)
    return max(0, math.floor((share - half) * last)), min(last, math.ceil((share + half) * last))


def percentiles_ms(rounds_s: Sequence[float]) -> dict[str, float | int | None]:
    """Return the fields of `Percentiles`: p50, p90 and p99 with their intervals, and how many rounds are missing."""
    found: dict[str, float | int | None] = {}
    for percent in PERCENTILES:
        ends_s = interval(rounds_s, percent)
        found[f"p{percent}_ms"] = None if ends_s is None else percentile(rounds_s, percent) * 1e3
        found[f"p{percent}_low_ms"] = None if ends_s is None else ends_s[0] * 1e3
        found[f"p{percent}_high_ms"] = None if ends_s is None else ends_s[1] * 1e3
        found[f"p{percent}_missing_rounds"] = max(0, interval_rounds(percent) - len(rounds_s))
    return found
