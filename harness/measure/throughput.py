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
from harness.measure.drift import slope_pct
from harness.proof import LastAnswer, Prepared, check_queued

# The windows that a duration is divided into: few enough that the one synchronisation of each does not matter.
WINDOWS = 5
# The windows that an interval needs. Four degrees of freedom widen it to 2.8 standard errors, two would to 4.3.
LEAST_WINDOWS = 5
LEAST_BATCHES = 2
CONFIDENCE = 0.95


RATE_FIELDS = ("images_per_second", "images_per_second_low", "images_per_second_high")


@dataclass(frozen=True)
class Throughput:
    """The number of images over wall time, summed over windows, with its 95% interval.

    The time of a window runs from before its first `submit` until after one `synchronize` at its end. `min_`, `max_`
    and `stdev_` are taken over the rates of the windows. With too few windows for an interval, the rate and its
    interval are None, and `missing_windows` says how many more are needed. `slope_pct` is by how many percent the
    seconds of a batch grew from the first third of the windows to the latest; None with too few of them.
    """

    kind: ClassVar[str] = "throughput"

    images_per_second: float | None
    images_per_second_low: float | None
    images_per_second_high: float | None
    missing_windows: int
    images: int
    batches: int
    wall_s: float
    windows: int
    min_images_per_second: float
    max_images_per_second: float
    stdev_images_per_second: float
    slope_pct: float | None

    @classmethod
    def of(cls, windows_s: Sequence[float], batches: Sequence[int], batch_size: int) -> Throughput:
        """Compute the record from the wall time in seconds and the number of batches of each window."""
        images = [count * batch_size for count in batches]
        rates = [count / window_s for count, window_s in zip(images, windows_s, strict=True)]
        return cls(
            **rate_of(images, windows_s),
            images=sum(images),
            batches=sum(batches),
            wall_s=sum(windows_s),
            windows=len(windows_s),
            min_images_per_second=min(rates),
            max_images_per_second=max(rates),
            stdev_images_per_second=statistics.pstdev(rates),
            slope_pct=slope_pct([window_s / count for count, window_s in zip(batches, windows_s, strict=True)]),
        )


def rate_of(images: Sequence[float], windows_s: Sequence[float]) -> dict[str, Any]:
    """Return the images per second of all windows, its 95% interval, and how many windows are missing for one.

    The rate is a ratio of two sums, so that its standard error is that of a ratio estimator, from what each window has
    more or less than the common rate gives it; the quantile is Student's. A bootstrap over five windows has no more
    than 126 different samples, and an interval that is too narrow.

    Args:
        images: the images of each window.
        windows_s: the wall time of each window in seconds.

    Source: Cochran, Sampling Techniques, 3rd edition, chapter 6.
    """
    count = len(windows_s)
    missing = max(0, LEAST_WINDOWS - count)
    if missing:
        return {**dict.fromkeys(RATE_FIELDS), "missing_windows": missing}
    from scipy.stats import t

    rate = sum(images) / sum(windows_s)
    excess = sum((done - rate * window_s) ** 2 for done, window_s in zip(images, windows_s, strict=True))
    error = math.sqrt(count * excess / (count - 1)) / sum(windows_s)
    half = error * float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return {**dict(zip(RATE_FIELDS, (rate, max(0.0, rate - half), rate + half), strict=True)), "missing_windows": 0}


def measure_throughput(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Throughput | None:
    """Time windows of batches, each from before its first `submit` until after one `synchronize` at its end.

    Returns None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed window.
        WrongAnswers: the last answer of a window, or of a few queued batches after it, is not that of its batch.
    """
    runner, batches = prepared.runner, prepared.batches
    windows: list[int] = []
    spans_s: list[float] = []
    last = LastAnswer(prepared)

    def one_window(size: int, left_s: float) -> None:
        """Run `size` batches, or fewer if the time is up, because the machine may be slower than before."""
        began_s = perf_counter()
        end_s = began_s + left_s
        done = 0
        while done < size and (done == 0 or perf_counter() < end_s):
            batch = batches[done % len(batches)]
            output = runner.submit(batch)
            done += 1
        runner.synchronize()
        spans_s.append(perf_counter() - began_s)
        last.note(output, batch)
        windows.append(done)

    def next_window(elapsed_s: float) -> tuple[Any, ...] | None:
        last.check("a throughput window")  # before the next window may overwrite it
        done, count, timed_s = sum(windows), len(windows), sum(spans_s)
        batch_s = timed_s / done if done else prepared.cost.batch_s
        size = window_batches(duration, count, done, elapsed_s, timed_s, batch_s)
        return (size, window_limit(duration, count, elapsed_s)) if size else None

    windows_s = timed("throughput", one_window, next_window, lambda: windows)
    last.check("the last throughput window")
    check_queued(prepared)
    prepared.require_no_recompilation()
    return Throughput.of(windows_s, windows, prepared.case.images) if windows_s else None


def window_limit(duration: Duration, windows: int, elapsed_s: float) -> float:
    """Return the seconds after which the next window starts no batch: its share of the time that is left."""
    if duration.max_s is None:
        return math.inf
    return (duration.max_s - elapsed_s) / max(1, LEAST_WINDOWS - windows)


def window_batches(
    duration: Duration, windows: int, done: int, elapsed_s: float, timed_s: float, batch_s: float
) -> int:
    """Return the number of batches of the next throughput window, or 0 if the measurement is complete.

    The windows are sized so that there are enough of them for an interval, unless `max_s` or the number of batches
    does not allow it.

    Args:
        duration: how long the measurement lasts.
        windows: the number of windows so far.
        done: the number of batches so far.
        elapsed_s: the seconds since the start of the measurement, which the longest duration limits.
        timed_s: the seconds of the windows alone, which have to reach the least duration: the answers that are
            compared between them do not count.
        batch_s: the seconds that one batch takes, from the batches so far, or from warm-up before the first.
    """
    asked = duration.batches or 0
    batches_left = max(0, asked - done)
    windows_left = max(1, LEAST_WINDOWS - windows)
    is_over = duration.max_s is not None and elapsed_s >= duration.max_s
    wants_windows = windows < LEAST_WINDOWS and not asked
    is_due = timed_s < duration.min_s or batches_left > 0 or wants_windows
    if done and (is_over or not is_due):
        return 0
    size = max(LEAST_BATCHES, round(duration.min_s / WINDOWS / batch_s), math.ceil(asked / WINDOWS))
    if batches_left and timed_s + batches_left * batch_s >= duration.min_s:  # these batches are the last
        size = min(size, max(1, batches_left // windows_left))
    if duration.max_s is not None:
        size = min(size, int((duration.max_s - elapsed_s) / batch_s / windows_left))
    return max(1, size)
