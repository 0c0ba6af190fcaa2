"""The training step: images per second and the time of a step, with inputs on the device, and its three phases."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any, ClassVar

import torch

from harness.cases import Duration, wants_more
from harness.measure.clock import TimedRounds
from harness.measure.drift import slope_pct
from harness.measure.percentiles import Percentiles, percentiles_ms
from harness.measure.throughput import WINDOWS, rate_of
from harness.proof import Contradiction
from harness.proof.training import PreparedStep

# How often the phases are timed, each step with a wait behind each phase.
PHASE_STEPS = 3


@dataclass(frozen=True)
class TrainingStepTime(Percentiles):
    """The time of one training step, from before its forward pass until after `synchronize` of its optimiser step.

    The inputs lie on the device, and consecutive steps use different batches. `images_per_second` is all images over
    the time of all steps, with its 95% interval from five windows of steps that follow each other. The phases are timed
    in steps of their own, with a wait behind each phase, so that they add up to more than a step. `last_loss` is the
    loss of the last timed step.
    """

    kind: ClassVar[str] = "training_step"

    images_per_second: float | None
    images_per_second_low: float | None
    images_per_second_high: float | None
    missing_windows: int
    images: int
    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    windows: int
    wall_s: float
    slope_pct: float | None
    forward_ms: float
    backward_ms: float
    optimiser_ms: float
    last_loss: float

    @classmethod
    def of(cls, rounds_s: Sequence[float], batch: int, phases_s: Sequence[float], last_loss: float) -> TrainingStepTime:
        """Compute the record from the seconds of the steps, those of the three phases, and the last loss."""
        total_s = sum(rounds_s)
        parts = windows_of(rounds_s)
        return cls(
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            **rate_of([len(part) * batch for part in parts], [sum(part) for part in parts]),
            images=len(rounds_s) * batch,
            mean_ms=total_s / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            stdev_ms=statistics.pstdev(rounds_s) * 1e3,
            rounds=len(rounds_s),
            windows=len(parts),
            wall_s=total_s,
            slope_pct=slope_pct(rounds_s),
            forward_ms=phases_s[0] * 1e3,
            backward_ms=phases_s[1] * 1e3,
            optimiser_ms=phases_s[2] * 1e3,
            last_loss=last_loss,
        )


def windows_of(rounds_s: Sequence[float]) -> list[Sequence[float]]:
    """Return the rounds as windows of neighbours, as many as an interval needs, or fewer where there are fewer."""
    parts = min(WINDOWS, len(rounds_s))
    ends = [len(rounds_s) * (index + 1) // parts for index in range(parts)]
    return [rounds_s[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def measure_training_step(prepared: PreparedStep, duration: Duration, timed: TimedRounds) -> TrainingStepTime | None:
    """Time one training step per round, with different batches in turn.

    Returns None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed step, a timed step changed no parameter, or a loss is not finite.
    """
    step, batches = prepared.step, prepared.batches
    turn = count()
    losses: list[torch.Tensor] = []
    before = step.parameters()

    def one_step(batch: Any) -> None:
        loss = step.submit(batch)
        step.synchronize()
        losses[:] = [loss]

    def next_round(elapsed_s: float) -> tuple[Any, ...] | None:
        index = next(turn)
        return (batches[index % len(batches)],) if wants_more(duration, index, elapsed_s) else None

    rounds_s = timed("training step", one_step, next_round)
    prepared.require_no_recompilation()
    if not rounds_s:
        return None
    after = step.parameters()
    if all(torch.equal(before[name], after[name]) for name in before):
        raise Contradiction(f"{prepared.case}: {len(rounds_s)} timed training steps changed no parameter")
    last_loss = float(losses[0])
    if not torch.isfinite(losses[0]).all():
        raise Contradiction(f"{prepared.case}: the loss after {len(rounds_s)} timed steps is {last_loss}")
    return TrainingStepTime.of(rounds_s, prepared.case.images, phases_s(prepared), last_loss)


def phases_s(prepared: PreparedStep) -> tuple[float, float, float]:
    """Return the median seconds of forward pass, backward pass and optimiser step, each with a wait behind it."""
    step, times = prepared.step, list[tuple[float, float, float]]()
    for index in range(PHASE_STEPS):
        step.clear()
        step.synchronize()
        began = perf_counter()
        loss = step.forward(prepared.batches[index % len(prepared.batches)])
        step.synchronize()
        forward = perf_counter()
        step.backward(loss)
        step.synchronize()
        backward = perf_counter()
        step.update()
        step.synchronize()
        times.append((forward - began, backward - forward, perf_counter() - backward))
    forwards, backwards, updates = (statistics.median(column) for column in zip(*times, strict=True))
    return forwards, backwards, updates
