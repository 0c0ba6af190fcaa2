"""What long work is handed to say how far it is. It imports nothing of visionmark, so every room may use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Told in a few words what is being done now, such as `loading` or `compiling`.
ReportPhase = Callable[[str], None]


class ReportShare(Protocol):
    """Told how far a run over many images is."""

    def __call__(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` images are done, with what is known so far; 0 as the run begins."""


def no_report(phase: str) -> None:
    """Show nothing."""
