"""The terms of a scenario: MLPerf's rules, or a short run's, and the settings that LoadGen gets for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.measure.loadgen.bridge import MULTI_STREAM_SAMPLES, Library, LoadgenSettings

# MLPerf inference rules, "Scenarios": the least duration in seconds and the least number of samples of a valid run.
MLPERF_S = 600.0
MLPERF_OFFLINE_SAMPLES = 24_576
# The latency bound in seconds that the rules set for image classification in the server scenario.
MLPERF_BOUND_S = 0.015
# The queries that LoadGen's early stopping needs for a percentile at 99% confidence: p90 in single_stream, p99 in
# multi_stream, and p99 under a bound in server.
LEAST_QUERIES = {"single_stream": 64, "multi_stream": 662, "offline": 1, "server": 459}
SHORT_S = 2.0


@dataclass(frozen=True)
class Terms:
    """The terms under which a scenario is run.

    Attributes:
        min_s: the least duration of a run in seconds.
        max_s: the longest duration of a run in seconds, or None.
        bound_s: the latency bound of the server scenario in seconds.
        is_mlperf: whether the counts of MLPerf's rules apply, and an INVALID run fails.
        folder: the folder for LoadGen's logs.
    """

    min_s: float
    max_s: float | None
    bound_s: float
    is_mlperf: bool
    folder: Path


def is_queued(scenario: str) -> bool:
    """Return whether samples are queued and batched: in offline and server they arrive before they can be answered."""
    return scenario in ("offline", "server")


def plan(scenario: str, terms: Terms, batch: int, batch_s: float, library: Library) -> LoadgenSettings:
    """Return the settings of a LoadGen run.

    Args:
        scenario: one of `bridge.SCENARIOS`.
        terms: the durations and the latency bound.
        batch: the number of images in a batch.
        batch_s: the seconds that one batch takes from host memory to its classes.
        library: the samples.
    """
    runs = -(-MULTI_STREAM_SAMPLES // batch) if scenario == "multi_stream" else 1
    rate = batch / batch_s
    least = LEAST_QUERIES[scenario] if terms.is_mlperf else 1
    if scenario == "offline":
        # offline is one query that has to last for the whole run, so expect a tenth more than the measured rate
        rate *= 1.1
        least = max(least, min(MLPERF_OFFLINE_SAMPLES, library.total) if terms.is_mlperf else batch)
    return LoadgenSettings(
        scenario,
        min_s=terms.min_s,
        max_s=terms.max_s,
        min_queries=least,
        # LoadGen draws as many queries ahead as fit into the duration; half the time, so that they are not used up
        expected_s=runs * batch_s / 2,
        rate=rate,
        bound_s=terms.bound_s,
    )
