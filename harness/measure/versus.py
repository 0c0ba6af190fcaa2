"""One case against another side, in turns: the time ratio, its interval, and which of the two is faster."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harness.measure.clock import TimedRounds, record_of
from harness.measure.latency import Latency
from harness.measure.taking_turns import (
    CANNOT_TELL,
    MOST_SHARED_PCT,
    JudgeTurns,
    SideDied,
    Start,
    Turns,
    TurnSide,
    log_ratios,
    take_turns,
)
from harness.progress import ReportPhase, no_report
from harness.proof import Contradiction

# A side that uses more of a core than this while the other is timed takes it from that.
MOST_IDLE_CPU_PCT = 5.0


class VersusSide(TurnSide, Protocol):
    """A side in a process of its own."""

    @property
    def name(self) -> str:
        """The name in messages, such as `the second side (engine=compile)`."""

    @property
    def facts(self) -> dict[str, Any]:
        """Its case, cost, evidence and identity, and the environment of its process."""


# Ends the two sides, starts both anew and returns them ready.
RenewSides = Callable[[], Sequence[VersusSide]]


@dataclass(frozen=True)
class VersusTerms:
    """What a comparison in turns is to decide, and how.

    Attributes:
        against: the words that say what the second side is.
        bound_pct: by how many percent two times may differ and be called the same.
        most_s: for how many seconds the sides take turns at most.
        judge: the rule that decides.
    """

    against: str
    bound_pct: float
    most_s: float
    judge: JudgeTurns


@dataclass(frozen=True)
class Versus:
    """Two sides that took turns. The first is the case as selected, the second that with the words of `against`.

    `ratio` is the time of a batch on the second side over that on the first, `ratio_low` and `ratio_high` the ends of
    its 95% interval over all looks. They are None where there are too few starts. `verdict` is of the second side:
    faster, slower, same or cannot tell; `reason` is what the last one lacks. `starts` is how often both sides were
    started; `each_start` has the ratio of each, None where none of its fours counts. `blocks_shared` are those in which
    other programs had the cores. Fours with one are left out of the ratio, unless `is_shared` says that hardly anything
    else was there. `runqueue_wait_pct` is that of the side that waited longer for a core. `first` and `second` are the
    full records of the sides, over all their rounds; None for a side that died before it ran any.
    """

    kind: ClassVar[str] = "versus"

    against: str
    bound_pct: float
    verdict: str
    reason: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    starts: int
    blocks: int
    blocks_shared: int
    is_shared: bool
    rounds_a_block: int
    untimed_rounds_a_block: int
    batches: int
    images: int
    wall_s: float
    runqueue_wait_pct: float | None
    idle_cpu_pct: float
    died: str
    each_start: tuple[float | None, ...]
    each_block: tuple[dict[str, Any], ...]
    first: dict[str, Any] | None
    second: dict[str, Any] | None

    @classmethod
    def of(cls, turns: Turns, terms: VersusTerms, facts: Sequence[dict[str, Any]], images_a_batch: int) -> Versus:
        """Compute the record from what the sides did and what their processes told."""
        waits = [_mean_wait(turns, side) for side in (0, 1)]
        known = [wait for wait in waits if wait is not None]
        finding = turns.finding
        verdict = CANNOT_TELL if finding is None else finding.verdict
        reason = "" if finding is None else finding.reason
        if turns.is_shared and len(known) == 2 and abs(known[0] - known[1]) > MOST_SHARED_PCT:
            verdict = CANNOT_TELL
            reason = (
                f"other programs made the first side wait for {known[0]:.0f}% of its time, the second {known[1]:.0f}%"
            )
        if turns.died:
            verdict, reason = CANNOT_TELL, turns.died.partition("\n")[0]
        batches = sum(len(block.rounds_s) for _, block in turns.blocks)
        return cls(
            against=terms.against,
            bound_pct=terms.bound_pct,
            verdict=verdict,
            reason=reason,
            ratio=None if finding is None else finding.value,
            ratio_low=None if finding is None else finding.low,
            ratio_high=None if finding is None else finding.high,
            starts=len(turns.starts),
            blocks=len(turns.blocks),
            blocks_shared=sum(block.is_shared for _, block in turns.blocks),
            is_shared=turns.is_shared,
            rounds_a_block=turns.rounds,
            untimed_rounds_a_block=turns.untimed,
            batches=batches,
            images=batches * images_a_batch,
            wall_s=turns.wall_s,
            runqueue_wait_pct=max(known, default=None),
            idle_cpu_pct=max((_idle_cpu_pct(turns, side) for side in (0, 1)), default=0.0),
            died=turns.died,
            each_start=tuple(_ratio_of(start, turns.is_shared) for start in turns.starts),
            each_block=tuple(
                {
                    "start": number,
                    "side": ("first", "second")[side],
                    "median_ms": statistics.median(block.rounds_s) * 1e3,
                    "runqueue_wait_pct": block.runqueue_wait_pct,
                }
                for number, start in enumerate(turns.starts, 1)
                for side, block in start
            ),
            first=_record_of_side(turns, 0, facts[0]),
            second=_record_of_side(turns, 1, facts[1]),
        )

    def require_both(self) -> None:
        """Check that both sides lived to the end.

        Raises:
            SideDied: one did not.
        """
        __tracebackhide__ = True
        if self.died:
            raise SideDied(self.died)


def measure_versus(
    sides: Sequence[VersusSide],
    renew: RenewSides,
    terms: VersusTerms,
    images_a_batch: int,
    timed: TimedRounds,
    report: ReportPhase = no_report,
) -> Versus | None:
    """Let two sides take turns, or return None if timing is switched off. For `timed` all turns are a single round.

    The facts in the record are those of the sides that are given; those that `renew` returns prove themselves anew.

    Raises:
        Contradiction: a graph was compiled in the turns, or a side ran while the other was timed.
        WrongAnswers: the last answer of a side is not that of its batch.
    """
    found: list[Turns] = []

    def both() -> None:
        seed = f"{sides[0].name} {sides[1].name}"
        found.append(take_turns(sides, renew, terms.most_s, terms.judge, seed, report))

    timed(
        "versus",
        both,
        lambda elapsed_s: None if found else (),
        lambda: [max(1, sum(len(block.rounds_s) for _, block in turns.blocks)) for turns in found],
    )
    if not found:
        return None
    turns = found[0]
    for index, side in enumerate(sides):
        if (idle_pct := _idle_cpu_pct(turns, index)) > MOST_IDLE_CPU_PCT:
            raise Contradiction(
                f"{side.name} used {idle_pct:.0f}% of a core while the other was timed: its library's threads do not "
                f"stand still; stop them from spinning (OMP_WAIT_POLICY=passive, KMP_BLOCKTIME=0)"
            )
    return Versus.of(turns, terms, [side.facts for side in sides], images_a_batch)


def _ratio_of(start: Start, is_shared: bool) -> float | None:
    """Return the time ratio of one start, or None if none of its fours counts."""
    counted = log_ratios(start, is_shared=is_shared)
    return math.exp(statistics.median(counted)) if counted else None


def _record_of_side(turns: Turns, side: int, facts: dict[str, Any]) -> dict[str, Any] | None:
    rounds_s = turns.rounds_of(side)
    if not rounds_s:
        return None
    own = {"runqueue_wait_pct": _mean_wait(turns, side), "idle_cpu_pct": _idle_cpu_pct(turns, side)}
    return {**record_of(Latency.of(rounds_s)), **own, **facts}


def _mean_wait(turns: Turns, side: int) -> float | None:
    waits = [wait for index, block in turns.blocks if index == side and (wait := block.runqueue_wait_pct) is not None]
    return statistics.fmean(waits) if waits else None


def _idle_cpu_pct(turns: Turns, side: int) -> float:
    """Return how much of a core a side used while it stood still: the median over its blocks."""
    shares = [share for index, block in turns.blocks if index == side and (share := block.idle_cpu_pct) is not None]
    return statistics.median(shares) if shares else 0.0
