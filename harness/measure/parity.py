"""Parity: how well the answers agree with those of the same weights in fp32 on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from harness.cases import PRECISIONS
from harness.measure.clock import TimedRounds
from harness.proof import Prepared, References, case_images
from harness.proof.answers import answers, judged
from harness.proof.parts import check_blocks
from models.tasks import Outputs, task_of

PARITY_IMAGES = 32


@dataclass(frozen=True)
class Parity:
    """The agreement of the answers with the fp32, eager CPU reference, and its floors. See `models.tasks.Agreement`.

    `gain` is that of the head whose gain is farthest from 1, and None for a model with one output.
    """

    kind: ClassVar[str] = "parity"

    sqnr_db: float
    sqnr_floor_db: float
    top1_agreement_pct: float
    top1_agreement_floor_pct: float
    gain: float | None
    gain_tolerance: float
    images: int


def measure_parity(prepared: Prepared, references: References, timed: TimedRounds) -> Parity:
    """Compare the answers to generated images, run in batches of the case's size, with those of the reference.

    Raises:
        WrongAnswers: the answers cannot be compared; or, in a batch of more images, some beyond the first are wrong.
    """
    batch = prepared.case.images
    number = -(-PARITY_IMAGES // batch) * batch
    images = case_images(prepared.case, prepared.spec, PARITY_IMAGES)[torch.arange(number) % PARITY_IMAGES]
    reference = references.outputs(PARITY_IMAGES)
    chunks = judged(prepared.runner, [prepared.runner.put(chunk) for chunk in images.split(batch)], reference, batch)
    found: list[Outputs] = []
    timed(
        "parity",
        lambda: found.append(answers(prepared.runner, chunks, number)),
        lambda elapsed_s: None if found else (),
    )
    precision, task = PRECISIONS[prepared.case.precision], task_of(prepared.spec)
    agreement = task.compare(reference, found[0].first(PARITY_IMAGES))
    if number > PARITY_IMAGES:
        check_blocks(task, prepared.case, found[0], reference, begin=PARITY_IMAGES)
    is_set = agreement.matched_pct is not None
    return Parity(
        sqnr_db=agreement.sqnr_db,
        sqnr_floor_db=precision.sqnr_floor_db,
        top1_agreement_pct=agreement.top1_agreement_pct,
        top1_agreement_floor_pct=precision.matched_floor_pct if is_set else precision.top1_agreement_floor_pct,
        gain=max(agreement.heads_gain.values(), key=lambda gain: abs(gain - 1), default=None),
        gain_tolerance=precision.gain_tolerance,
        images=PARITY_IMAGES,
    )
