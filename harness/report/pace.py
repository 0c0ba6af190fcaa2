"""How far a run over many cases is, and about how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Pace:
    """Counts cases, and corrects what they were expected to take by what the earlier ones took."""

    def __init__(self, expected_s: Mapping[str, float | None], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now.

        Args:
            expected_s: for each case that is going to run how many seconds it is expected to take, None if not known.
            clock: gives seconds.
        """
        self._expected_s = dict(expected_s)
        self._clock = clock
        self._began_s = clock()
        self._numbers: dict[str, int] = {}
        self._over: dict[str, float] = {}

    def begin(self, case: str) -> str:
        """Return the line that says that a case begins, such as `case 7 of 144: NAME, about 40 min left`."""
        number = self._numbers.setdefault(case, len(self._numbers) + 1)
        left_s = self.left_s()
        left = "how long the rest takes is not known yet" if left_s is None else f"about {in_words(left_s)} left"
        return f"case {number} of {len(self._expected_s)}: {case}, {left}"

    def end(self, case: str) -> None:
        """Count a case as over, however it ended."""
        self._over[case] = self._clock() - self._began_s

    def left_s(self) -> float | None:
        """Return the seconds that all cases that are not over are expected to take, None if nothing is known."""
        took_s = max(self._over.values(), default=0.0)
        known = [self._expected_s[case] for case in self._over if self._expected_s.get(case)]
        given = sum(expected for expected in known if expected is not None)
        # a case of which nothing is known takes as long as those that are over
        of_unknown = took_s / len(self._over) if self._over else None
        share = took_s / given if given and len(known) == len(self._over) else 1.0
        left_s = 0.0
        for case, expected in self._expected_s.items():
            if case in self._over:
                continue
            if expected is None and of_unknown is None:
                return None
            left_s += of_unknown or 0.0 if expected is None else expected * share
        return left_s


def in_words(seconds: float) -> str:
    """Return a time as a person says it: `40 s`, `12 min` or `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
