"""The check that a runner's answers agree with those of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cases import PRECISIONS, Case
from harness.engines import Runner
from models.tasks import Agreement, Outputs, Task, WrongAnswers

# The number of images whose answers are checked before anything is timed.
CHECKED_IMAGES = 8


def answers(runner: Runner, batches: Sequence[Any], count: int) -> Outputs:
    """Return the runner's answers to the first `count` images of the batches, in order."""
    found: list[Outputs] = []
    for batch in batches:
        found.append(runner.fetch(runner.submit(batch)).copy())
        if sum(map(len, found)) >= count:
            break
    return Outputs.join(found).first(count)


def check_answers(task: Task, case: Case, runner: Runner, batches: Sequence[Any], reference: Outputs) -> Agreement:
    """Compare the runner's answers to the first images of the batches with the reference's answers.

    Returns:
        How well the answers agree.

    Raises:
        WrongAnswers: the answers cannot be compared, or differ by more than the precision allows.
    """
    found = answers(runner, batches, len(reference))
    compared = reference.first(len(found))
    agreement = task.compare(compared, found)
    floor = PRECISIONS[case.precision].sqnr_floor_db
    if agreement.sqnr_db < floor:
        raise WrongAnswers(
            f"answers are {agreement.sqnr_db:.1f} dB from the fp32 reference, the floor of {case.precision} is "
            f"{floor:.0f} dB: {task.describe_wrong(compared, found)}"
        )
    return agreement
