"""The interface of a job: work that runs in a separate process, such as a stream, a training rank or a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.cases import Duration
from harness.measure.stream_window import Window
from harness.progress import ReportPhase


class ReadyJob(Protocol):
    """A job that is ready to run, in its own process."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the starting process needs to know about the job, JSON-serialisable."""

    @property
    def step_s(self) -> float:
        """The time of one step in seconds. A job that completes no step for many times as long counts as hanging."""

    def run(self, duration: Duration, window: Window) -> Any:
        """Do the work, beginning at the common start of the window. The result is sent to the starting process."""

    def close(self) -> None:
        """Release everything that the job holds."""


class Job(Protocol):
    """Work that is sent to another process, so it has to be picklable."""

    @property
    def name(self) -> str:
        """The name in messages, such as `stream 1`."""

    def prepare(self, report: ReportPhase) -> ReadyJob:
        """Prepare the work in the process that runs it. `report` is called with a description of each step."""


@dataclass(frozen=True)
class Placement:
    """The part of the machine that a job may use.

    Attributes:
        cores: the logical CPUs that the job runs on from its beginning, None to leave its CPU affinity unchanged.
        threads: the number of threads that one operator may use.
        node: the NUMA node whose memory the job uses, None for any.
    """

    cores: tuple[int, ...] | None
    threads: int
    node: int | None = None
