"""The check that a runner's answers agree with those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cases import PRECISIONS, Case
from harness.engines import Fed, Runner
from models.tasks import Agreement, Outputs, Task, WrongAnswers

# The number of images whose answers are checked before anything is timed.
CHECKED_IMAGES = 8


def answers(runner: Runner, batches: Sequence[Any], count: int) -> Outputs:
    """Return the runner's answers to the first `count` images of the batches, in order."""
    found: list[Outputs] = []
    for batch in batches:
        found += own_answers(runner, [batch])
        if sum(map(len, found)) >= count:
            break
    return Outputs.join(found).first(count)


def judged(runner: Runner, batches: Sequence[Any], reference: Outputs, size: int) -> list[Any]:
    """Return the batches for whose answers a runner is judged: with the reference's choices where it can take them.

    Args:
        runner: the runner.
        batches: the batches, from `Runner.put`.
        reference: the reference's answers to the first images; for images without one, the first ones' serve.
        size: the number of images in a batch.
    """
    if not isinstance(runner, Fed):
        return list(batches)
    rows = [[(at * size + row) % len(reference) for row in range(size)] for at in range(len(batches))]
    return [runner.fed(batch, reference.rows(some)) for batch, some in zip(batches, rows, strict=True)]


def own_answers(runner: Runner, batches: Sequence[Any]) -> list[Outputs]:
    """Return the runner's answers to each batch, one at a time and in memory of their own."""
    return [runner.fetch(runner.submit(batch)).copy() for batch in batches]


def in_common(reference: Outputs, own: Sequence[Outputs]) -> tuple[Outputs, Outputs]:
    """Return the reference's answers and a runner's own, to the images that both have answered."""
    found = Outputs.join(own).first(len(reference))
    return reference.first(len(found)), found


def check_answers(task: Task, case: Case, own: Sequence[Outputs], reference: Outputs) -> Agreement:
    """Compare a runner's answers to the first images with the reference's answers.

    Args:
        task: the task of the model.
        case: the label.
        own: the runner's answers to each batch, from `own_answers`.
        reference: the reference's answers to the first images of the batches.

    Returns:
        How well the answers agree.

    Raises:
        WrongAnswers: the answers cannot be compared, or differ by more than the precision allows.
    """
    compared, found = in_common(reference, own)
    agreement = task.compare(compared, found)
    if reason := short_of(agreement, case.precision):
        raise WrongAnswers(f"{reason}: {task.describe_wrong(compared, found)}")
    return agreement


def short_of(agreement: Agreement, precision: str) -> str | None:
    """Return None, or by what answers are farther from the reference's than the precision allows."""
    terms = PRECISIONS[precision]
    if agreement.sqnr_db < terms.sqnr_floor_db:
        return (
            f"answers are {agreement.sqnr_db:.1f} dB from the fp32 reference, the floor of {precision} is "
            f"{terms.sqnr_floor_db:.0f} dB"
        )
    if agreement.matched_pct is not None and agreement.matched_pct < terms.matched_floor_pct:
        return (
            f"{agreement.matched_pct:.0f}% of the objects match those of the fp32 reference, the floor of {precision} "
            f"is {terms.matched_floor_pct:.0f}%"
        )
    off = {name: gain for name, gain in agreement.heads_gain.items() if abs(gain - 1) > terms.gain_tolerance}
    if off:
        worst = max(off, key=lambda name: abs(off[name] - 1))
        return (
            f"the head {worst} is {off[worst]:.2f} times as large as the fp32 reference's, and {precision} allows "
            f"{1 - terms.gain_tolerance:g} to {1 + terms.gain_tolerance:g} times"
        )
    return None
