"""Streams: several processes that run at once in one common time window, and what they add up to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from harness.cases import Case, Duration
from harness.measure.clock import TimedRounds
from harness.measure.drift import slope_pct
from harness.measure.latency import Latency
from harness.measure.percentiles import Percentiles
from harness.measure.stream_window import StreamRun
from harness.measure.throughput import LEAST_WINDOWS, rate_of


@dataclass(frozen=True)
class Streams(Percentiles):
    """Several streams in one common window, which lasts from the start of the first request to the end of the last.

    `images_per_second` is the number of all images over the window's wall time; its 95% interval, `min_`, `max_` and
    `stdev_` are taken over equal intervals of the window. With fewer of these than an interval needs the rate is None,
    and `missing_windows` says how many more are needed. The percentiles are over the requests of all streams, each from
    before its `submit` until after its `synchronize`. `each` has a row for each stream over the same wall time, so that
    the rates of the streams add up to the whole. `untimed_rounds` are those of the stream that ran the fewest before
    the window. `slope_pct` is that of the stream that drifted most, `runqueue_wait_pct` that of the one that waited
    longest for a core.
    """

    kind: ClassVar[str] = "streams"

    images_per_second: float | None
    images_per_second_low: float | None
    images_per_second_high: float | None
    windows: int
    missing_windows: int
    images: int
    batches: int
    wall_s: float
    min_images_per_second: float
    max_images_per_second: float
    stdev_images_per_second: float
    processes: int
    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    slope_pct: float | None
    untimed_rounds: int
    runqueue_wait_pct: float | None
    each: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, runs: Sequence[StreamRun], batch_size: int) -> Streams:
        """Compute the record from the runs of all streams. `batch_size` is the number of images in a request."""
        begin_s, end_s = min(run.began_s for run in runs), max(run.ended_s for run in runs)
        whole = _window(runs, begin_s, end_s, batch_size)
        each = [{"name": run.name, **_window([run], begin_s, end_s, batch_size)} for run in runs]
        return cls(**whole, processes=len(runs), each=tuple(each))


def _window(runs: Sequence[StreamRun], begin_s: float, end_s: float, batch_size: int) -> dict[str, Any]:
    """Return the rate and the request statistics of these streams in a window."""
    rounds_s = [round_s for run in runs for round_s in run.rounds_s]
    length_s, counts = interval_counts(runs, begin_s, end_s)
    images = [count * batch_size for count in counts]
    rates = [count / length_s for count in images]
    requests = asdict(Latency.of(rounds_s))
    del requests["wall_s"]  # it is the sum of all requests, not the wall time of the window
    slopes = [slope for run in runs if (slope := slope_pct(run.rounds_s)) is not None]
    waits = [run.runqueue_wait_pct for run in runs if run.runqueue_wait_pct is not None]
    found = {
        **rate_of(images, [length_s] * len(counts)),
        "windows": len(counts),
        "images": len(rounds_s) * batch_size,
        "batches": len(rounds_s),
        "wall_s": end_s - begin_s,
        "min_images_per_second": min(rates),
        "max_images_per_second": max(rates),
        "stdev_images_per_second": statistics.pstdev(rates),
        **requests,
        "slope_pct": max(slopes, key=abs, default=None),
        "untimed_rounds": min(run.untimed_rounds for run in runs),
        "runqueue_wait_pct": max(waits, default=None),
    }
    if found["images_per_second"] is not None:
        found["images_per_second"] = found["images"] / found["wall_s"]  # without the rounding of a sum of shares
    return found


def interval_counts(runs: Sequence[StreamRun], begin_s: float, end_s: float) -> tuple[float, list[float]]:
    """Return the length in seconds of equal intervals of the window, and the requests in each of them.

    There are at most ten intervals, each long enough for about eight requests per stream; or the five that a rate
    needs, if each has two. A request that spans several intervals counts in each by the share of its time, so that the
    boundaries add no noise.
    """
    rounds = sum(len(run.rounds_s) for run in runs)
    number = max(1, min(10, rounds // (8 * len(runs))), min(LEAST_WINDOWS, rounds // (2 * len(runs))))
    length_s = (end_s - begin_s) / number
    counts = [0.0] * number
    for run in runs:
        at_s = run.began_s
        # Between two requests a stream looks whether it is done: what that takes is spread over all of them.
        stretch = max(1.0, (run.ended_s - run.began_s) / sum(run.rounds_s)) if run.rounds_s else 1.0
        for round_s in (stretch * one_s for one_s in run.rounds_s):
            first, last = (int((time_s - begin_s) / length_s) for time_s in (at_s, at_s + round_s))
            for index in range(first, min(last, number - 1) + 1):
                within_s = min(at_s + round_s, begin_s + (index + 1) * length_s) - max(at_s, begin_s + index * length_s)
                counts[index] += within_s / round_s
            at_s += round_s
    return length_s, counts


class RunningStreams(Protocol):
    """Streams that are ready to run."""

    def run(
        self, duration: Duration, begin: Callable[[], None] = ..., end: Callable[[], None] = ...
    ) -> Sequence[StreamRun]:
        """Run all streams in one common window. `begin` is called at its start, `end` when every stream has ended."""


class WindowWatch(Protocol):
    """An observer that is called when the timed window begins and ends."""

    def begin(self) -> None:
        """Note that the window begins now."""

    def end(self) -> None:
        """Note that the window has ended now."""


def measure_streams(
    case: Case, streams: RunningStreams, duration: Duration, timed: TimedRounds, watch: WindowWatch
) -> Streams | None:
    """Measure the requests of several processes in one common window, or return None if timing is switched off.

    The processes take the times of the requests themselves. For `timed` the whole window is a single round.
    """
    found: list[Streams] = []
    timed(
        "streams",
        lambda: found.append(Streams.of(streams.run(duration, watch.begin, watch.end), case.images)),
        lambda elapsed_s: None if found else (),
        lambda: [one.batches for one in found],
    )
    return found[0] if found else None
