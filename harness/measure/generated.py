"""Generated images from host memory: a batch is copied in, computed, and its answer is copied out, all timed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

import torch

from harness.cases import Duration, wants_more
from harness.measure.clock import TimedRounds
from harness.measure.drift import slope_pct
from harness.measure.percentiles import Percentiles, percentiles_ms
from harness.proof import Prepared, check_again
from harness.proof.answers import CHECKED_IMAGES
from harness.proof.inputs import case_batches
from models.tasks import Outputs, task_of


@dataclass(frozen=True)
class Generated(Percentiles):
    """The time from before a batch in host memory is put until its answer is in host memory, one batch at a time.

    The images are generated, and consecutive rounds use different ones. `images_per_second` is images over the time of
    all rounds, in which nothing overlaps. `host_bytes_per_image` is what an image takes in host memory, before the
    engine casts it to the number format that it copies (`input_bytes_per_image`).
    """

    kind: ClassVar[str] = "generated"

    images_per_second: float
    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    images: int
    wall_s: float
    slope_pct: float | None
    host_bytes_per_image: float

    @classmethod
    def of(cls, rounds_s: Sequence[float], batch: torch.Tensor) -> Generated:
        """Compute the record from the times of the rounds, in seconds, and one of the batches."""
        total = sum(rounds_s)
        return cls(
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            images_per_second=len(rounds_s) * len(batch) / total,
            mean_ms=total / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            stdev_ms=statistics.pstdev(rounds_s) * 1e3,
            rounds=len(rounds_s),
            images=len(rounds_s) * len(batch),
            wall_s=total,
            slope_pct=slope_pct(rounds_s),
            host_bytes_per_image=batch.nbytes / len(batch),
        )


def measure_generated(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Generated | None:
    """Time one batch a round, from host memory to its answer in host memory.

    Returns None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed round.
        WrongAnswers: the answer of the last round is not that of its batch.
    """
    runner, case = prepared.runner, prepared.case
    batches = case_batches(case, prepared.spec, CHECKED_IMAGES, len(prepared.batches))
    turn = count()
    last: list[tuple[torch.Tensor, Outputs]] = []

    def one_batch(batch: torch.Tensor) -> None:
        output = runner.submit(runner.put(batch))
        runner.synchronize()
        last[:] = [(batch, runner.fetch(output))]

    def next_round(elapsed_s: float) -> tuple[Any, ...] | None:
        index = next(turn)
        return (batches[index % len(batches)],) if wants_more(duration, index, elapsed_s) else None

    rounds_s = timed("generated", one_batch, next_round)
    for batch, answered in last:
        check_again(task_of(prepared.spec), case.precision, runner, batch, answered, "the rounds of generated images")
    prepared.require_no_recompilation()
    return Generated.of(rounds_s, batches[0]) if rounds_s else None
