"""Throughput: images per second in windows of batches that are submitted without waiting for each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

from harness.cases import Duration
from harness.measure.clock import TimedRounds
from harness.proof import LastAnswer, Prepared, check_queued

# Few enough windows that the one synchronisation of each does not matter, and enough to see a drift of the rate.
WINDOWS = 5
LEAST_BATCHES = 2


@dataclass(frozen=True)
class Throughput:
    """The number of images over wall time, summed over windows.

    The time of a window runs from before its first `submit` until after one `synchronize` at its end. `min_`, `max_`
    and `stdev_` are taken over the rates of the windows.
    """

    kind: ClassVar[str] = "throughput"

    images_per_second: float
    images: int
    batches: int
    wall_s: float
    windows: int
    min_images_per_second: float
    max_images_per_second: float
    stdev_images_per_second: float

    @classmethod
    def of(cls, windows_s: Sequence[float], batches: Sequence[int], batch_size: int) -> Throughput:
        """Compute the record from the wall time in seconds and the number of batches of each window."""
        wall_s = sum(windows_s)
        images = sum(batches) * batch_size
        rates = [count * batch_size / window_s for count, window_s in zip(batches, windows_s, strict=True)]
        return cls(
            images / wall_s,
            images,
            sum(batches),
            wall_s,
            len(windows_s),
            min(rates),
            max(rates),
            statistics.pstdev(rates),
        )


def measure_throughput(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Throughput | None:
    """Time windows of batches, each from before its first `submit` until after one `synchronize` at its end.

    Returns None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed window.
        WrongAnswers: the last answer of a window, or of a few queued batches after it, is not that of its batch.
    """
    runner, batches = prepared.runner, prepared.batches
    windows: list[int] = []
    last = LastAnswer(prepared)

    def one_window(size: int, left_s: float) -> None:
        """Run `size` batches, or fewer if the time is up, because the machine may be slower than before."""
        end_s = perf_counter() + left_s
        done = 0
        while done < size and (done == 0 or perf_counter() < end_s):
            batch = batches[done % len(batches)]
            output = runner.submit(batch)
            done += 1
        runner.synchronize()
        last.note(output, batch)
        windows.append(done)

    def next_window(elapsed_s: float) -> tuple[Any, ...] | None:
        last.check("a throughput window")  # before the next window may overwrite it
        done = sum(windows)
        size = window_batches(duration, done, elapsed_s, elapsed_s / done if done else prepared.cost.batch_s)
        return (size, math.inf if duration.max_s is None else duration.max_s - elapsed_s) if size else None

    windows_s = timed("throughput", one_window, next_window)
    last.check("the last throughput window")
    check_queued(prepared)
    prepared.require_no_recompilation()
    return Throughput.of(windows_s, windows, prepared.case.images) if windows_s else None


def window_batches(duration: Duration, done: int, elapsed_s: float, batch_s: float) -> int:
    """Return the number of batches of the next throughput window, or 0 if the measurement is complete.

    Args:
        duration: how long the measurement lasts.
        done: the number of batches so far.
        elapsed_s: the seconds since the start of the measurement.
        batch_s: the seconds that one batch takes, from the batches so far, or from warm-up before the first.
    """
    batches_left = (duration.batches or 0) - done
    is_over = duration.max_s is not None and elapsed_s >= duration.max_s
    is_due = elapsed_s < duration.min_s or batches_left > 0
    if done and (is_over or not is_due):
        return 0
    size = max(
        LEAST_BATCHES,
        round(duration.min_s / WINDOWS / batch_s),
        math.ceil((duration.batches or 0) / WINDOWS),
    )
    if elapsed_s >= duration.min_s and batches_left > 0:
        size = min(size, batches_left)
    if duration.max_s is not None:
        size = min(size, int((duration.max_s - elapsed_s) / batch_s))
    return max(1, size)
