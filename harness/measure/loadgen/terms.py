"""The terms of a scenario: MLPerf's rules, or a short run's, and the settings that LoadGen gets for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.measure.loadgen.bridge import MULTI_STREAM_SAMPLES, Library, LoadgenSettings
from harness.measure.loadgen.conf import Conf, official_terms

# The latency bound in seconds that MLPerf sets for image classification in the server scenario, for short runs and for
# served models; a run under MLPerf's terms takes that of `mlperf.conf`.
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
        folder: the folder for LoadGen's logs.
        conf: whose part of `mlperf.conf` applies, with its seeds and counts; None for a short run's own terms.
    """

    min_s: float
    max_s: float | None
    bound_s: float
    folder: Path
    conf: Conf | None = None

    @property
    def is_mlperf(self) -> bool:
        """Whether the run is under MLPerf's terms, so that an INVALID one fails."""
        return self.conf is not None


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
    least = 1
    if terms.conf is not None:
        least = max(LEAST_QUERIES[scenario], official_terms(terms.conf, scenario).min_queries)
    if scenario == "offline":
        # offline is one query that has to last for the whole run, so expect a tenth more than the measured rate
        rate *= 1.1
        least = max(least, batch)
    return LoadgenSettings(
        scenario,
        min_s=terms.min_s,
        max_s=terms.max_s,
        min_queries=least,
        # LoadGen draws as many queries ahead as fit into the duration; half the time, so that they are not used up
        expected_s=runs * batch_s / 2,
        rate=rate,
        bound_s=terms.bound_s,
        conf=terms.conf,
    )
