"""Handing out pieces of work to the workers of a crew until each is done once, whichever of the workers die.

It is plain logic over the interface `Crew`, so that it is the same for processes of this machine and of a cluster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from harness.jobs.crews.crew import Crew, Heard
from harness.jobs.spawn import HANGS_AFTER_S, READY_WITHIN_S, JobFailed
from harness.measure.bulk.shifts import HandedOut, Loss, Piece, Shift, Turn
from harness.progress import ReportPhase

# A worker hangs if a piece takes it this many times as long as the longest piece so far, and `HANGS_AFTER_S` at least.
HANGS_AFTER_PIECES = 20
FIRST_PIECE_WITHIN_S = 900.0
# While there is plenty of work a worker has three pieces in its hands: the one that it is at, the next, and one on the
# way, so that it never waits, and knows when it begins a piece which one follows.
DEPTH = 3
# A piece that was in the hands of so many workers when they died is what they die of.
DEADLY_AFTER = 2
HEAR_S = 0.5
# More workers than this are not started again in one slot: something ends them whatever they do.
MOST_HIRED = 3

KeepResult = Callable[[Piece, str, Any], None]


@dataclass
class _Worker:
    number: int
    slot: int
    asked_s: float
    facts: dict[str, Any] | None = None
    from_s: float = 0.0
    until_s: float | None = None
    is_waited_for: bool = True
    in_hand: deque[tuple[Piece, float]] = field(default_factory=deque)
    turns: list[Turn] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    def shift(self, until_s: float) -> Shift:
        where = str((self.facts or {}).get("where", ""))
        return Shift(self.name, where, self.from_s, self.until_s or until_s, tuple(self.turns))


class HandOut:
    """The workers of a crew, and which piece each of them has."""

    def __init__(
        self, crew: Crew, report: ReportPhase, clock: Callable[[], float] = monotonic, *, is_watching: bool = True
    ) -> None:
        """Hand out work to this crew.

        Args:
            crew: the workers.
            report: called with a description of what a worker is doing.
            clock: gives seconds.
            is_watching: whether a worker that is at one piece for much longer than others were counts as lost.
        """
        self._is_watching = is_watching
        self._crew = crew
        self._report = report
        self._clock = clock
        self._workers: dict[int, _Worker] = {}
        self._gone: list[_Worker] = []
        self._losses: list[tuple[Loss, int]] = []
        self._hired = [0] * crew.slots
        self._longest_s = 0.0

    @property
    def facts(self) -> list[dict[str, Any]]:
        """The facts of the workers that are ready, in their order."""
        return [worker.facts for worker in self._workers.values() if worker.facts is not None]

    def ready(self) -> None:
        """Start a worker in every slot, and return when all are ready and warm.

        Raises:
            JobFailed: one died, failed, or is not ready in time.
            Contradiction, WrongAnswers: one is not what its label says.
        """
        for slot in range(self._crew.slots):
            self._hire(slot)
        while any(worker.is_waited_for for worker in self._workers.values()):
            for heard in self._heard():
                if heard.word == "lost":
                    raise JobFailed(f"{self._workers[heard.worker].name} {heard.value}")
            self._require_in_time()

    def run(self, pieces: Sequence[Piece], keep: KeepResult) -> HandedOut:
        """Have every piece done once. A worker that dies is replaced, and others do what it had in its hands.

        Args:
            pieces: the pieces, which are begun in their order.
            keep: called with each piece when its result has come, with the name of the worker, and with the result.

        Raises:
            JobFailed: a worker failed, no worker is left, or one piece ends every worker that takes it.
            Contradiction, WrongAnswers: a worker is not what its label says.
        """
        began_s = self._clock()
        todo, left = deque(pieces), len(pieces)
        deaths: dict[int, int] = {}
        for worker in self._workers.values():
            worker.from_s = began_s
        while left:
            self._give(todo)
            if not self._workers:
                raise JobFailed(f"no worker is left, and {left} of {len(pieces)} pieces are missing: {self._epitaph()}")
            for heard in self._heard():
                worker = self._workers[heard.worker]
                if heard.word == "lost":
                    self._lose(worker, str(heard.value), todo, deaths)
                elif heard.word == "done":
                    piece = self._take_back(worker, heard.value[0], heard.value[1])
                    left -= 1
                    self._give(todo)  # the next before the writing, which takes a while
                    keep(piece, worker.name, heard.value[1])
            self._end_hanging(todo, deaths)
        ended_s = self._clock()
        everyone = sorted([*self._gone, *self._workers.values()], key=lambda one: one.number)
        shifts = [worker.shift(ended_s) for worker in everyone if worker.turns or worker.from_s]
        return HandedOut(began_s, ended_s, shifts, [loss for loss, _ in self._losses])

    def finish(self) -> None:
        """Have every worker check that it still is what it was.

        Raises:
            JobFailed: one failed, or does not answer in time.
            Contradiction, WrongAnswers: one is not what its label says.
        """
        for worker in list(self._workers.values()):
            if worker.facts is None:  # one that was to replace another, and is not needed any more
                self._crew.dismiss(self._workers.pop(worker.number).number)
            else:
                worker.is_waited_for, worker.asked_s = True, self._clock()
                self._crew.tell(worker.number, "finish")
        while any(worker.is_waited_for for worker in self._workers.values()):
            for heard in self._heard():
                if heard.word == "lost":
                    del self._workers[heard.worker]  # all its work is kept; it only cannot be asked any more
            self._require_in_time()

    def _hire(self, slot: int) -> bool:
        number = self._crew.hire(slot)
        if number is not None:
            self._hired[slot] += 1
            self._workers[number] = _Worker(number, slot, self._clock())
        return number is not None

    def _heard(self) -> Iterator[Heard]:
        """Yield the messages that have come, after doing what is the same for all of them."""
        for heard in self._crew.hear(HEAR_S):
            worker = self._workers.get(heard.worker)
            if worker is None:
                continue
            if heard.word == "phase":
                self._report(f"{worker.name} {heard.value}")
            elif heard.word == "ready":
                worker.facts = heard.value
                self._crew.tell(worker.number, "warm")
            elif heard.word == "warm":
                worker.is_waited_for, worker.from_s = False, self._clock()
                self._note_replaced(worker)
            elif heard.word == "finished":
                worker.is_waited_for = False
            elif heard.word == "denied":
                raise type(heard.value)(f"{worker.name}: {heard.value}")
            elif heard.word == "failed":
                raise JobFailed(f"{worker.name} failed:\n{heard.value}")
            yield heard

    def _require_in_time(self) -> None:
        for worker in self._workers.values():
            if worker.is_waited_for and self._clock() - worker.asked_s > READY_WITHIN_S:
                raise JobFailed(
                    f"{worker.name} does not answer within {READY_WITHIN_S:g} s; it is here:\n"
                    f"{self._crew.stack_of(worker.number)}"
                )

    def _give(self, todo: deque[Piece]) -> None:
        """Give work to every worker that has room, those with the least first."""
        able = [worker for worker in self._workers.values() if not worker.is_waited_for]
        for depth in range(1, DEPTH + 1):
            for worker in able:
                is_plenty = depth == 1 or len(todo) > (DEPTH - 1) * len(able)
                if todo and is_plenty and len(worker.in_hand) < depth:
                    piece = todo.popleft()
                    worker.in_hand.append((piece, self._clock()))
                    self._crew.tell(worker.number, "work", piece)

    def _take_back(self, worker: _Worker, index: int, run: Any) -> Piece:
        """Note that a worker has done the piece that it was given first."""
        if not worker.in_hand or worker.in_hand[0][0].index != index:
            raise JobFailed(f"{worker.name} gave a result for piece {index}, which it was not given")
        piece, given_s = worker.in_hand.popleft()
        done_s = self._clock()
        if worker.turns:
            given_s = max(given_s, worker.turns[-1].done_s)
        self._longest_s = max(self._longest_s, done_s - given_s)
        worker.turns.append(Turn(piece.index, piece.size, given_s, done_s, run))
        return piece

    def _lose(self, worker: _Worker, reason: str, todo: deque[Piece], deaths: dict[int, int]) -> None:
        """Give back what a lost worker had, and start another in its place."""
        worker.until_s = self._clock()
        del self._workers[worker.number]
        self._report(f"{worker.name} {reason}")
        if worker.facts is None:
            return  # it was to replace another, whose loss is noted, and did not even get ready: no second try
        self._gone.append(worker)
        pieces = [piece for piece, _ in worker.in_hand]
        todo.extendleft(reversed(pieces))
        size = sum(piece.size for piece in pieces)
        self._losses.append((Loss(worker.name, reason, worker.until_s, size), worker.slot))
        for piece in pieces[:1]:  # the one that it was at
            deaths[piece.index] = deaths.get(piece.index, 0) + 1
            if deaths[piece.index] >= DEADLY_AFTER:
                raise JobFailed(f"{piece} ended {DEADLY_AFTER} workers one after the other: {self._epitaph()}")
        if todo and self._hired[worker.slot] < MOST_HIRED:
            self._hire(worker.slot)

    def _note_replaced(self, worker: _Worker) -> None:
        for index, (loss, slot) in enumerate(self._losses):
            if slot == worker.slot and loss.replaced_s is None:
                self._losses[index] = replace(loss, replaced_s=worker.from_s), slot

    def _end_hanging(self, todo: deque[Piece], deaths: dict[int, int]) -> None:
        """End the workers that have been at one piece for too long; they count as lost."""
        allowed_s = (
            max(HANGS_AFTER_S, HANGS_AFTER_PIECES * self._longest_s) if self._longest_s else FIRST_PIECE_WITHIN_S
        )
        for worker in list(self._workers.values()):
            if worker.in_hand and self._is_watching:
                since_s = max(worker.in_hand[0][1], worker.turns[-1].done_s if worker.turns else worker.from_s)
                if self._clock() - since_s > allowed_s:
                    where = self._crew.stack_of(worker.number)
                    self._crew.dismiss(worker.number)
                    reason = (
                        f"hangs: nothing came of {worker.in_hand[0][0]} for {allowed_s:.0f} s; it was here:\n{where}"
                    )
                    self._lose(worker, reason, todo, deaths)
            elif worker.is_waited_for and self._clock() - worker.asked_s > READY_WITHIN_S:
                self._crew.dismiss(worker.number)
                self._lose(worker, f"was not ready within {READY_WITHIN_S:g} s", todo, deaths)

    def _epitaph(self) -> str:
        return "; ".join(f"{loss.worker} {loss.reason}" for loss, _ in self._losses) or "none was ever there"
