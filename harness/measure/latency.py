"""Latency: the time that one batch takes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

from harness.cases import Duration, wants_more
from harness.measure.clock import TimedRounds
from harness.measure.drift import slope_pct
from harness.measure.percentiles import Percentiles, percentiles_ms
from harness.proof import LastAnswer, Prepared


@dataclass(frozen=True)
class Latency(Percentiles):
    """The latency of one batch, from before `submit` until after `synchronize`.

    The input lies on the device already, and consecutive rounds use different inputs. `slope_pct` is by how many
    percent the rounds grew from the first third to the latest; None with too few of them.
    """

    kind: ClassVar[str] = "latency"

    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    wall_s: float
    slope_pct: float | None

    @classmethod
    def of(cls, rounds_s: Sequence[float]) -> Latency:
        """Compute the record from the times of the rounds, in seconds."""
        total = sum(rounds_s)
        return cls(
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            mean_ms=total / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            stdev_ms=statistics.pstdev(rounds_s) * 1e3,
            rounds=len(rounds_s),
            wall_s=total,
            slope_pct=slope_pct(rounds_s),
        )


def measure_latency(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Latency | None:
    """Time one batch per round, from before `submit` until after `synchronize`, with different inputs in turn.

    Returns None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed round.
        WrongAnswers: the answer of the last round is not that of its batch.
    """
    runner, batches = prepared.runner, prepared.batches
    turn, last = count(), LastAnswer(prepared)

    def one_batch(batch: Any) -> None:
        output = runner.submit(batch)
        runner.synchronize()
        last.note(output, batch)

    def next_round(elapsed_s: float) -> tuple[Any, ...] | None:
        index = next(turn)
        return (batches[index % len(batches)],) if wants_more(duration, index, elapsed_s) else None

    rounds_s = timed("latency", one_batch, next_round)
    last.check("the latency rounds")
    prepared.require_no_recompilation()
    return Latency.of(rounds_s) if rounds_s else None
