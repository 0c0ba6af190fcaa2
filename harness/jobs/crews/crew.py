"""The interfaces of a crew: workers that are handed one piece of work after the other, wherever they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.measure.bulk.shifts import Piece
from harness.progress import ReportPhase


class ReadyWorker(Protocol):
    """A worker that is ready, in its own process."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the process that hands out the work needs to know about the worker, JSON-serialisable."""

    def warm(self) -> None:
        """Run a little untimed work, because a worker that was ready early has stood still."""

    def expect(self, piece: Any) -> None:
        """Note which piece comes after the one that is to be done now, where that is known."""

    def work(self, piece: Any) -> Any:
        """Do one piece and return its result."""

    def finish(self) -> None:
        """Check, when all pieces are done, that the worker still is what it was.

        Raises:
            Contradiction, WrongAnswers: it is not.
        """

    def close(self) -> None:
        """Release everything that the worker holds."""


class PieceJob(Protocol):
    """Work that is sent to another process and is then given pieces, so it has to be picklable."""

    def prepare(self, report: ReportPhase) -> ReadyWorker:
        """Prepare the work in the process that does it. `report` is called with a description of each step."""


@dataclass(frozen=True)
class Heard:
    """A message of a worker.

    Attributes:
        worker: the number of the worker, as `Crew.hire` returned it.
        word: `phase`, `ready`, `warm`, `done` (a piece), `finished`, `denied` (its label), `failed` or `lost`.
        value: the text of a phase, the facts of a ready worker, a result, an error, a traceback or how it was lost.
    """

    worker: int
    word: str
    value: Any = None


class Crew(Protocol):
    """Workers in processes of their own. No call waits but `hear`."""

    @property
    def slots(self) -> int:
        """How many workers there are to be at once."""

    @property
    def names(self) -> Sequence[str]:
        """The machines on which there are workers."""

    @property
    def launcher(self) -> str:
        """What starts the workers, such as `spawn`."""

    def hire(self, slot: int) -> int | None:
        """Start a worker in a slot, and return its number; None if its machine is no more."""

    def tell(self, worker: int, word: str, piece: Piece | None = None) -> None:
        """Tell a worker to `warm`, to do a piece of `work`, or to `finish`."""

    def hear(self, timeout_s: float) -> Sequence[Heard]:
        """Wait for messages for at most so many seconds, and return those that have come."""

    def dismiss(self, worker: int) -> None:
        """End a worker at once. Nothing more is heard of it."""

    def stack_of(self, worker: int) -> str:
        """Return where a worker is that does not answer, as far as it can be told."""
