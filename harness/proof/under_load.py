"""The check of answers under load: a batch that is queued behind others gets the answer that it gets by itself.

The answers before the clock come from one batch at a time. An engine may be right then, and drop work or overwrite an
output once batches are queued. Therefore the last output of what was timed is fetched and compared when the clock has
stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from harness.cases import PRECISIONS
from harness.engines import Runner
from harness.proof.prepared import Prepared
from models.tasks import Outputs, Task, WrongAnswers, task_of

# After throughput, so many batches are queued once more. The last batch of a timed window shows one length of the
# queue, whichever the clock happened to allow; these show every short one.
QUEUE_LENGTHS = (2, 3)


class LastAnswer:
    """The last output of a measurement. It is noted while the clock runs, and fetched and compared afterwards."""

    def __init__(self, prepared: Prepared) -> None:
        """Compare with the runner's own answers, one batch at a time, which were checked against the reference."""
        self._prepared = prepared
        self._noted: tuple[Any, Any] | None = None

    def note(self, output: Any, batch: Any) -> None:
        """Remember the output of `submit` for a batch, which is one of `Prepared.batches`. Nothing is fetched."""
        self._noted = output, batch

    def check(self, where: str) -> None:
        """Fetch the output that was noted last and compare it. Without one, nothing is done.

        Args:
            where: what the output is the last of, for the message.

        Raises:
            WrongAnswers: it is not the answer to its batch.
        """
        __tracebackhide__ = True
        if self._noted is None:
            return
        (output, batch), self._noted = self._noted, None
        prepared = self._prepared
        index = next(at for at, one in enumerate(prepared.batches) if one is batch)
        wrong = _difference(
            task_of(prepared.spec),
            prepared.case.precision,
            prepared.proof.answers,
            index,
            prepared.runner.fetch(output),
        )
        if wrong:
            raise WrongAnswers(f"{prepared.case}: the last answer of {where} is wrong: {wrong}")


def check_queued(prepared: Prepared) -> None:
    """Queue a few batches without waiting for each other, and compare the answer to the last.

    Raises:
        WrongAnswers: it is not the answer to its batch.
    """
    __tracebackhide__ = True
    runner, last = prepared.runner, LastAnswer(prepared)
    for length in QUEUE_LENGTHS:
        for index in range(length):
            batch = prepared.batches[index % len(prepared.batches)]
            output = runner.submit(batch)
        runner.synchronize()
        last.note(output, batch)
        last.check(f"{length} queued batches")


def check_again(
    task: Task,
    precision: str,
    runner: Runner,
    images: torch.Tensor,
    answered: Outputs,
    where: str,
    others: torch.Tensor | None = None,
) -> None:
    """Run a batch again by itself, and compare its answer with the one that it got under load.

    Args:
        task: the task of the model.
        precision: the precision of the case.
        runner: the runner, which has submitted nothing since.
        images: the batch, fp32 [n, 3, h, w] on the host.
        answered: the outputs that were fetched for it under load.
        where: what the answer is the last of, for the message.
        others: other images, which show how much answers differ from image to image; None for the negatives.

    Raises:
        WrongAnswers: the answers differ.
    """
    __tracebackhide__ = True
    kept = answered.copy()  # running the batch again may overwrite it
    own = []
    for one in (images, 1 - images if others is None else others):
        batch = runner.put(one)
        runner.synchronize()
        output = runner.submit(batch)
        runner.synchronize()
        own.append(runner.fetch(output).copy())
    wrong = _difference(task, precision, own, 0, kept)
    if wrong:
        raise WrongAnswers(f"the last answer of {where} is wrong: {wrong}")


def _difference(task: Task, precision: str, own: Sequence[Outputs], index: int, found: Outputs) -> str | None:
    """Return None, or in which way `found` is not the answer `own[index]`, given the answers to some other batches.

    The floor is that of the precision. The signal is that of all batches and the noise that of one, which is taken off.
    """
    floor = PRECISIONS[precision].sqnr_floor_db
    reference = Outputs.join(own)

    def sqnr_db(at: int) -> float:
        replaced = Outputs.join([*own[:at], found, *own[at + 1 :]])
        return task.compare(reference, replaced).sqnr_db - 10 * math.log10(len(own))

    try:
        if (db := sqnr_db(index)) >= floor:
            return None
        others = [at for at in range(len(own)) if at != index and sqnr_db(at) >= floor]
    except WrongAnswers as wrong:
        return str(wrong)
    whose = f", and the answer to batch {others[0] + 1}, not {index + 1}" if others else ""
    return (
        f"it is {db:.1f} dB from what the batch gets by itself, the floor of {precision} is {floor:.0f} dB{whose}: "
        f"under load the engine drops work or overwrites outputs"
    )
