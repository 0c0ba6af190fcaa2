"""The progress line of a training run. In a log it is one for the first step, for every tenth and for every minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from harness.measure.training import Moment

LEAST_INTERVAL_S = 0.5
# Where lines are kept, as in a log, nothing is longer without one than this.
MOST_INTERVAL_S = 60.0
_CLEAR_TO_END = "\x1b[K"


class TrainingLine:
    """Shows how far a run is, with its loss, its rate and the time that is left."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to this stream, or stderr. `clock` gives seconds."""
        self._out, self._clock = out or sys.stderr, clock
        self._is_terminal = self._out.isatty()
        self._written_at: float | None = None
        self._tenths = 0

    def show(self, moment: Moment) -> None:
        """Show a moment, at most twice a second on a terminal."""
        now = self._clock()
        is_last = moment.step == moment.steps
        text = (
            f"step {moment.step:,} of {moment.steps:,}, loss {moment.loss:.4f}, "
            f"{moment.images_per_second:.1f} images/s, {duration(moment.left_s)} left"
        )
        if self._is_terminal:
            if self._written_at is None or is_last or now - self._written_at >= LEAST_INTERVAL_S:
                self._written_at = now
                self._out.write(f"\r{text}{_CLEAR_TO_END}" + "\n" * is_last)
                self._out.flush()
        elif (
            self._written_at is None
            or self._tenths < 10 * moment.step // moment.steps
            or now - self._written_at >= MOST_INTERVAL_S
        ):
            self._written_at = now
            self._tenths = 10 * moment.step // moment.steps
            print(text, file=self._out, flush=True)

    def tell(self, line: str) -> None:
        """Write a line of its own."""
        start = f"\r{_CLEAR_TO_END}" if self._is_terminal and self._written_at is not None else ""
        print(f"{start}{line}", file=self._out, flush=True)


def duration(seconds: float) -> str:
    """Return a time in hours and minutes, minutes and seconds, or seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
