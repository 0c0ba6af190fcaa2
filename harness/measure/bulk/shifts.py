"""What several workers did and when, on the clock of the process that hands out the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Piece(Protocol):
    """A part of a whole that one worker does alone, such as a block of images. `str` names it."""

    @property
    def index(self) -> int:
        """The position of the piece in the whole, from 0."""

    @property
    def size(self) -> int:
        """How much of the whole it is, such as the number of its images."""


@dataclass(frozen=True)
class Turn:
    """A piece that one worker has done.

    Attributes:
        index: the index of the piece.
        size: its size.
        given_s: when the worker was given it, or was done with the one before it if that was later.
        done_s: when its result had come.
        run: the result.
    """

    index: int
    size: int
    given_s: float
    done_s: float
    run: Any


@dataclass(frozen=True)
class Loss:
    """A worker that was lost.

    Attributes:
        worker: its name.
        reason: how it ended.
        at_s: when that was noticed.
        size: the size of the pieces that it had been given and not done, which others then did.
        replaced_s: when another worker in its place was ready; None if none was, or not before the end.
    """

    worker: str
    reason: str
    at_s: float
    size: int
    replaced_s: float | None = None


@dataclass(frozen=True)
class Shift:
    """What one worker did.

    Attributes:
        name: its name, such as `worker 1`.
        where: the machine, the process and the device, for a reader.
        from_s: when it was ready, or the window began if that was later.
        until_s: when it was lost, or the window ended.
        turns: the pieces that it did.
    """

    name: str
    where: str
    from_s: float
    until_s: float
    turns: Sequence[Turn]


@dataclass(frozen=True)
class HandedOut:
    """How pieces were handed out and done. All times are in seconds on one clock.

    Attributes:
        began_s: when the first piece was given away.
        ended_s: when the last result was kept.
        shifts: what each worker did, also those that were lost.
        losses: the workers that were lost.
    """

    began_s: float
    ended_s: float
    shifts: Sequence[Shift]
    losses: Sequence[Loss]
