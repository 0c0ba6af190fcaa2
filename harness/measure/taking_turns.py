"""Two sides in turns: blocks of rounds in balanced order, until a rule decides or the time is over.

Several times in between both sides are started anew, because two processes of one side differ by themselves. The clock,
the sides and the rule are given, so that nothing here waits for anything but a block of a side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from random import Random
from time import perf_counter
from typing import Any, Protocol

from harness.progress import ReportPhase, no_report

# A block is long enough that handing over costs little, and short enough that the machine is the same for the next.
BLOCK_S = 0.2
LEAST_ROUNDS = 3
# Of a block's rounds so many, and at least one, come before it untimed: the other side has had the caches meanwhile.
UNTIMED_SHARE = 0.1
# Four blocks in one of these orders, each as often as the other, so that a steady drift is the same for both sides.
ORDERS = ((0, 1, 1, 0), (1, 0, 0, 1))
BLOCKS_OF_FOUR = 4
# In so many starts of both sides the time is over. More of them would spend it on getting ready.
STARTS = 8
# A block that waited longer for a core, in percent of its time, shows the other programs of the machine. A machine that
# does nothing else makes a thread wait for a few hundredths.
MOST_SHARED_PCT = 10.0
CANNOT_TELL = "cannot tell"


class SideDied(RuntimeError):
    """The process of a side has ended, hangs or failed. The first line names the side and says how."""


@dataclass(frozen=True)
class SideBlock:
    """One block of rounds of one side.

    Attributes:
        rounds_s: the timed rounds in order, each from before `submit` until after `synchronize`, in seconds.
        runqueue_wait_pct: the percentage of the block that a thread of the side waited for a core; None where that is
            unknown, or where the side has more threads than cores, which wait for each other.
        idle_cpu_pct: how much of one core the side used while it stood still before this block, in percent; None where
            that was too short a time to tell.
    """

    rounds_s: Sequence[float]
    runqueue_wait_pct: float | None
    idle_cpu_pct: float | None

    @property
    def is_shared(self) -> bool:
        """Whether other programs had the cores meanwhile."""
        return self.runqueue_wait_pct is not None and self.runqueue_wait_pct > MOST_SHARED_PCT


class TurnSide(Protocol):
    """A side that is ready and stands still until it is asked."""

    @property
    def step_s(self) -> float:
        """The time of one round in seconds, as timed at the end of warm-up."""

    def block(self, rounds: int, untimed: int) -> SideBlock:
        """Run so many untimed rounds and then so many timed ones, and return when the side stands still again.

        Raises:
            SideDied: the process of the side has ended, hangs or failed.
        """

    def end(self) -> None:
        """Check that its last answer was right and that nothing was compiled in the turns, and end it.

        Raises:
            Contradiction, WrongAnswers: it was not so.
            SideDied: the process of the side has ended, hangs or failed.
        """


class Finding(Protocol):
    """What is said of two sides: a verdict, and the time ratio with its interval."""

    @property
    def verdict(self) -> str:
        """The answer in a word; `cannot tell` lets the turns go on."""

    @property
    def value(self) -> float | None:
        """The time of the second side over that of the first."""

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""

    @property
    def reason(self) -> str:
        """What is missing where the verdict is `cannot tell`."""


# Given for each start the logarithms of the time ratios of its fours, and whether the time is over, says what they
# decide, or None if this is no planned look at them.
JudgeTurns = Callable[[Sequence[Sequence[float]], bool], Finding | None]
# Ends the two sides, starts both anew and returns them ready.
Renew = Callable[[], Sequence[TurnSide]]
# The blocks of one start, each with its side, 0 or 1, in order.
Start = Sequence[tuple[int, SideBlock]]


@dataclass(frozen=True)
class Turns:
    """What two sides did in turns.

    Attributes:
        starts: the blocks of each start of both sides.
        rounds: the timed rounds of a block.
        untimed: the untimed rounds before them.
        wall_s: the seconds of the turns, without those of getting ready.
        finding: what was decided, None if a side died before there was anything to say.
        is_shared: whether blocks in which other programs had the cores are part of the finding.
        died: which side died and how, empty if none did.
    """

    starts: Sequence[Start]
    rounds: int
    untimed: int
    wall_s: float
    finding: Finding | None
    is_shared: bool
    died: str

    @property
    def blocks(self) -> Start:
        """All blocks in order."""
        return [block for start in self.starts for block in start]

    def rounds_of(self, side: int) -> list[float]:
        """Return all timed rounds of a side, in seconds."""
        return [round_s for index, block in self.blocks if index == side for round_s in block.rounds_s]


def take_turns(
    sides: Sequence[TurnSide],
    renew: Renew,
    most_s: float,
    judge: JudgeTurns,
    seed: Any,
    report: ReportPhase = no_report,
    clock: Callable[[], float] = perf_counter,
) -> Turns:
    """Let two sides run blocks in turns until the rule decides, the time is over, or a side dies.

    Args:
        sides: the two sides, ready.
        renew: starts them anew.
        most_s: the time of turns after which no more four blocks are begun, in seconds.
        judge: the rule.
        seed: of the lot that draws the orders.
        report: called with what is known so far, between two blocks.
        clock: gives seconds.

    Raises:
        Contradiction, WrongAnswers: a side is not what its label says, or its last answers are not right.
    """
    rounds = max(LEAST_ROUNDS, math.ceil(BLOCK_S / statistics.fmean(side.step_s for side in sides)))
    untimed = max(1, round(UNTIMED_SHARE * rounds))
    lot = Random(seed)
    starts: list[list[tuple[int, SideBlock]]] = []
    finding: Finding | None = None
    is_shared, died, wall_s = False, "", 0.0
    try:
        for number in count(1):
            if number > 1:
                sides = renew()
            blocks: list[tuple[int, SideBlock]] = []
            starts.append(blocks)
            began_s = clock()
            try:
                for side in sides:  # not counted: the first has stood still while the second was got ready
                    side.block(rounds, untimed)
                while clock() - began_s < most_s / STARTS or not blocks:
                    for index in lot.choice(ORDERS):
                        blocks.append((index, sides[index].block(rounds, untimed)))
                    report(_told(starts, finding))
            finally:
                wall_s += clock() - began_s
            for side in sides:
                side.end()
            is_over = wall_s >= most_s
            now, is_shared = found_in(starts, judge, is_over)
            finding = now or finding
            if is_over or (now is not None and now.verdict != CANNOT_TELL):
                break
    except SideDied as death:
        named, _, words = str(death).partition("\n")
        died = f"{named}, after {sum(map(len, starts))} blocks\n{words}".rstrip()
        for side in sides:
            with suppress(SideDied):  # the one that lives is still asked for its proof
                side.end()
    return Turns(starts, rounds, untimed, wall_s, finding, is_shared, died)


def found_in(starts: Sequence[Start], judge: JudgeTurns, is_over: bool) -> tuple[Finding | None, bool]:
    """Return what the rule says, and whether fours with a shared block are part of it.

    Those are left out. Only if the time is over and the others are too few, all count.
    """
    own, all_of_them = ([log_ratios(start, is_shared=shared) for start in starts] for shared in (False, True))
    finding = judge(own, is_over)
    if not is_over or own == all_of_them or (finding is not None and finding.value is not None):
        return finding, False
    return judge(all_of_them, is_over), True


def log_ratios(start: Start, *, is_shared: bool) -> list[float]:
    """Return the logarithm of the time ratio of each four of a start, those with a shared block only if asked for."""
    fours = [start[at : at + BLOCKS_OF_FOUR] for at in range(0, len(start) - BLOCKS_OF_FOUR + 1, BLOCKS_OF_FOUR)]
    return [log_ratio(four) for four in fours if is_shared or not any(block.is_shared for _, block in four)]


def log_ratio(four: Sequence[tuple[int, SideBlock]]) -> float:
    """Return the logarithm of the time of the second side over that of the first, by the medians of four blocks."""
    return sum((1 if index else -1) * math.log(statistics.median(block.rounds_s)) for index, block in four) / 2


def _told(starts: Sequence[Start], finding: Finding | None) -> str:
    done = f"{sum(map(len, starts))} blocks in turns, start {len(starts)}"
    if finding is None or finding.value is None or finding.low is None or finding.high is None:
        return done
    return f"{done}, ratio {finding.value:.3f} ({finding.low:.3f} to {finding.high:.3f})"
