"""The rounds of a row as a page draws them: in milliseconds, and thinned where a page would have too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.comparison.runs import SECONDS_A_BATCH, SECONDS_A_BATCH_OF_FILES, WINDOWS

# What a round is where it is no batch, and since which schema its time is that of one of its batches.
_LONGER = {
    **{name: ("window", SECONDS_A_BATCH) for name in WINDOWS},
    "end_to_end": ("pass over the files", SECONDS_A_BATCH_OF_FILES),
}
# How many rounds a page has of all rows together: with their places less than 2 MB of numbers.
MOST_ROUNDS = 150_000
# A row has at least these, however many rows there are.
LEAST_ROUNDS = 200
DIGITS = 6
# A distribution of fewer rounds than these shows nothing.
LEAST_TO_DISTRIBUTE = 20
BINS = 40


def rounds_s_of(benchmark: Mapping[str, Any], schema: int) -> dict[str, Any] | None:
    """Return the rounds of a benchmark of pytest-benchmark's file, or None where there are not several.

    Returns:
        `times_s`, in the order in which they were measured; `of`, what a round is, such as a batch or a window; and
        `per`, what takes such a time: of a window it is one of its batches, but of an earlier schema all of it.
    """
    record = benchmark.get("extra_info") or {}
    times_s = list((benchmark.get("stats") or {}).get("data") or ())
    kind = str(record.get("measurement"))
    what, since = _LONGER.get(kind, ("step" if kind == "training_step" else "batch", schema + 1))
    per = what if schema < since else "batch"
    if record.get("rounds_ms"):  # what a load generator timed by itself
        times_s, what, per = [time_ms / 1e3 for time_ms in record["rounds_ms"]], "request", "request"
    return {"times_s": times_s, "of": what, "per": per} if len(times_s) > 1 else None


def drawn_rounds(rounds: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Return for each row its rounds as they are drawn, or None.

    Args:
        rounds: for each row what `rounds_s_of` returned.

    Returns:
        For each row `times_ms`, to six digits; `at`, the numbers of these rounds counted from 0, None where all are
        there; `total`, how many were measured; `of` and `per` as they were given; and `bins`, how all rounds are
        distributed: `low_ms`, `width_ms` and the `counts`, None where the rounds are too few.
    """
    having = sum(one is not None for one in rounds)
    most = max(LEAST_ROUNDS, MOST_ROUNDS // max(having, 1))
    return [
        None if one is None else {**_drawn(one["times_s"], most), "of": one["of"], "per": one["per"]} for one in rounds
    ]


def _drawn(times_s: Sequence[float], most: int) -> dict[str, Any]:
    at = None if len(times_s) <= most else _extremes(times_s, most)
    kept = times_s if at is None else [times_s[index] for index in at]
    times_ms = [float(f"{time_s * 1e3:.{DIGITS}g}") for time_s in kept]
    return {"times_ms": times_ms, "at": at, "total": len(times_s), "bins": _bins(times_s)}


def _bins(times_s: Sequence[float]) -> dict[str, Any] | None:
    low_s, high_s = min(times_s), max(times_s)
    if len(times_s) < LEAST_TO_DISTRIBUTE or not high_s > low_s:
        return None
    counts = [0] * BINS
    for time_s in times_s:
        counts[min(BINS - 1, int((time_s - low_s) / (high_s - low_s) * BINS))] += 1
    return {"low_ms": low_s * 1e3, "width_ms": (high_s - low_s) / BINS * 1e3, "counts": counts}


def _extremes(times_s: Sequence[float], most: int) -> list[int]:
    """Return the indices of the least and the greatest of each of `most` / 2 parts, so that no spike is lost."""
    parts = most // 2
    found: set[int] = set()
    for part in range(parts):
        inside = range(len(times_s) * part // parts, len(times_s) * (part + 1) // parts)
        found |= {min(inside, key=times_s.__getitem__), max(inside, key=times_s.__getitem__)}
    return sorted(found)
