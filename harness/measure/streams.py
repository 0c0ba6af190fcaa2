"""Streams: several processes that run at once in one common time window, and what each of them does in it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, sleep
from typing import Any, ClassVar, Protocol

from harness.cases import Case, Duration, wants_more
from harness.engines import Runner
from harness.measure.clock import TimedRounds
from harness.measure.latency import Latency
from harness.measure.percentiles import Percentiles


@dataclass(frozen=True)
class StreamRun:
    """What one stream did in the window. All times are in seconds on the clock that the processes share.

    Attributes:
        name: the name of the stream.
        rounds_s: the time of each request, from before `submit` until after `synchronize`.
        began_s: the time at which the first request began.
        ended_s: the time at which the last request ended.
    """

    name: str
    rounds_s: Sequence[float]
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Streams(Percentiles):
    """Several streams in one common window, which lasts from the start of the first request to the end of the last.

    `images_per_second` is the number of all images over the window's wall time; its `min_`, `max_` and `stdev_` are
    taken over equal intervals of the window. The percentiles are over the requests of all streams, each from before its
    `submit` until after its `synchronize`. `each` has a row for each stream over the same wall time, so that the rates
    of the streams add up to the whole.
    """

    kind: ClassVar[str] = "streams"

    images_per_second: float
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
    images, wall_s = len(rounds_s) * batch_size, end_s - begin_s
    rates = [count * batch_size for count in interval_rates(runs, begin_s, end_s)]
    requests = asdict(Latency.of(rounds_s))
    del requests["wall_s"]  # it is the sum of all requests, not the wall time of the window
    return {
        "images_per_second": images / wall_s,
        "images": images,
        "batches": len(rounds_s),
        "wall_s": wall_s,
        "min_images_per_second": min(rates),
        "max_images_per_second": max(rates),
        "stdev_images_per_second": statistics.pstdev(rates),
        **requests,
    }


def interval_rates(runs: Sequence[StreamRun], begin_s: float, end_s: float) -> list[float]:
    """Return the requests per second in equal intervals of the window.

    There are at most ten intervals, each long enough for about eight requests per stream. A request that spans several
    intervals counts in each by the share of its time, so that the boundaries add no noise.
    """
    rounds = sum(len(run.rounds_s) for run in runs)
    number = max(1, min(10, rounds // (8 * len(runs))))
    length_s = (end_s - begin_s) / number
    counts = [0.0] * number
    for run in runs:
        at_s = run.began_s
        for round_s in run.rounds_s:
            first, last = (int((time_s - begin_s) / length_s) for time_s in (at_s, at_s + round_s))
            for index in range(first, min(last, number - 1) + 1):
                within_s = min(at_s + round_s, begin_s + (index + 1) * length_s) - max(at_s, begin_s + index * length_s)
                counts[index] += within_s / round_s
            at_s += round_s
    return [count / length_s for count in counts]


class Window(Protocol):
    """The common time window of several processes, as one of them sees it."""

    @property
    def go_at_s(self) -> float:
        """The time in seconds at which the window begins, on the clock that all processes share."""

    def is_stopped(self) -> bool:
        """Return whether all processes are told to end now."""

    def report(self, rounds: int) -> None:
        """Report how many rounds this process has done, so that a hanging process is noticed."""

    def is_everyone_done(self) -> bool:
        """Report that this process has enough rounds, and return whether all the others have too."""


def run_window(
    runner: Runner,
    batches: Sequence[Any],
    duration: Duration,
    window: Window,
    name: str,
    note: Callable[[Any, Any], None] = lambda output, batch: None,
) -> StreamRun:
    """Run requests one after the other, from the common start until every stream has enough of them.

    A stream that has enough requests continues until the others do too, so that no stream has the machine to itself.

    Args:
        runner: the warm model.
        batches: the batches to cycle through.
        duration: how long to run.
        window: the common window of all streams.
        name: the name of the stream.
        note: called with the last output and its batch when the last request has ended.
    """
    rounds_s: list[float] = []
    while (ahead_s := window.go_at_s - perf_counter()) > 0:
        sleep(ahead_s)
    began_s = now_s = perf_counter()
    while not window.is_stopped():
        elapsed_s = now_s - window.go_at_s
        if rounds_s and duration.max_s is not None and elapsed_s >= duration.max_s:
            break
        if not wants_more(duration, len(rounds_s), elapsed_s) and window.is_everyone_done():
            break
        began_round_s = perf_counter()
        batch = batches[len(rounds_s) % len(batches)]
        output = runner.submit(batch)
        runner.synchronize()
        now_s = perf_counter()
        rounds_s.append(now_s - began_round_s)
        window.report(len(rounds_s))
    if rounds_s:
        note(output, batch)
    return StreamRun(name, rounds_s, began_s, now_s)


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
    )
    return found[0] if found else None
