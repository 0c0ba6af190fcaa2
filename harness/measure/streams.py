"""Streams: several processes at once in one common window, and what one of them does in it."""

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
    """What one stream did in the window. Times are of the clock that all processes share, in seconds.

    Attributes:
        name: of the stream.
        rounds_s: each request, from before `submit` until after `synchronize`.
        began_s: when its first request began.
        ended_s: when its last one ended.
    """

    name: str
    rounds_s: Sequence[float]
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Streams(Percentiles):
    """Several streams in one common window, from the first request's start to the last one's end.

    `images_per_second` is all images over that wall time; `min_`, `max_` and `stdev_` are of equal intervals of it. The
    percentiles are those of all requests together, each from before its `submit` until after its `synchronize`. `each`
    has a row a stream, over the same wall time, so that they add up to the whole.
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
        """From what each stream did."""
        begin_s, end_s = min(run.began_s for run in runs), max(run.ended_s for run in runs)
        whole = _window(runs, begin_s, end_s, batch_size)
        each = [{"name": run.name, **_window([run], begin_s, end_s, batch_size)} for run in runs]
        return cls(**whole, processes=len(runs), each=tuple(each))


def _window(runs: Sequence[StreamRun], begin_s: float, end_s: float, batch_size: int) -> dict[str, Any]:
    """What these streams did in a window: rate and requests."""
    rounds_s = [round_s for run in runs for round_s in run.rounds_s]
    images, wall_s = len(rounds_s) * batch_size, end_s - begin_s
    rates = [count * batch_size for count in interval_rates(runs, begin_s, end_s)]
    requests = asdict(Latency.of(rounds_s))
    del requests["wall_s"]  # of one request after the other
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
    """Requests a second in equal intervals, at most ten and each long enough for some eight requests a stream.

    A request that spans several intervals counts in each by the share of its time, so that a boundary makes no noise.
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
    """The common window of several processes, as one of them sees it."""

    @property
    def go_at_s(self) -> float:
        """When it begins, on the clock that all processes share."""

    def is_stopped(self) -> bool:
        """Whether all are told to end now."""

    def report(self, rounds: int) -> None:
        """Say how many rounds this process has done, so that one that no longer moves is seen."""

    def is_everyone_done(self) -> bool:
        """Say that this process has what it wants, and ask whether all others have too."""


def run_window(runner: Runner, batches: Sequence[Any], duration: Duration, window: Window, name: str) -> StreamRun:
    """Requests, one after the other, from the common start until every stream has what it wants.

    A stream that has what it wants goes on until the others have it too, so that none has the machine to itself.
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
        runner.submit(batches[len(rounds_s) % len(batches)])
        runner.synchronize()
        now_s = perf_counter()
        rounds_s.append(now_s - began_round_s)
        window.report(len(rounds_s))
    return StreamRun(name, rounds_s, began_s, now_s)


class RunningStreams(Protocol):
    """Streams that are ready."""

    def run(
        self, duration: Duration, begin: Callable[[], None] = ..., end: Callable[[], None] = ...
    ) -> Sequence[StreamRun]:
        """One common window. `begin` is called when it begins, `end` when every stream has ended it."""


class WindowWatch(Protocol):
    """Told when the timed window begins and ends."""

    def begin(self) -> None:
        """Now."""

    def end(self) -> None:
        """Now."""


def measure_streams(
    case: Case, streams: RunningStreams, duration: Duration, timed: TimedRounds, watch: WindowWatch
) -> Streams | None:
    """Requests of several processes in one common window; the clock is their own, the round is all of it."""
    found: list[Streams] = []
    timed(
        "streams",
        lambda: found.append(Streams.of(streams.run(duration, watch.begin, watch.end), case.images)),
        lambda elapsed_s: None if found else (),
    )
    return found[0] if found else None
