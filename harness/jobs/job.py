"""A piece of work for a process of its own, such as a stream, a rank of training or a shard of a bulk run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.cases import Duration
from harness.measure.streams import Window
from harness.progress import ReportPhase


class ReadyJob(Protocol):
    """Work that is prepared, in its own process."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the one who started it has to know of it, fit for JSON."""

    @property
    def step_s(self) -> float:
        """What one step of it takes, in seconds: who completes none for many times as long hangs."""

    def run(self, duration: Duration, window: Window) -> Any:
        """Do the work from the common start on. What it returns is sent to the one who started it."""

    def close(self) -> None:
        """Let go of everything."""


class Job(Protocol):
    """Work that can be sent to another process, so it has to be picklable."""

    @property
    def name(self) -> str:
        """What messages call it, such as `stream 1`."""

    def prepare(self, report: ReportPhase) -> ReadyJob:
        """Get ready, in the process that is to run it. `report` is told what is being done."""


@dataclass(frozen=True)
class Placement:
    """What of the machine a job may use.

    Attributes:
        cores: that it may run on, None to leave them.
        threads: that one operator may use.
    """

    cores: tuple[int, ...] | None
    threads: int
