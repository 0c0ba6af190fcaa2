"""The check of every row of a submit: of each iteration and replica, and of a batch beyond its first rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.cases import PRECISIONS, Case
from harness.cases.setting import device_iterations
from harness.engines import Runner
from harness.proof.answers import check_answers, judged, own_answers
from harness.proof.inputs import case_images, image_places, parts_of
from models.catalog import ModelSpec
from models.tasks import Outputs, Task, WrongAnswers


def reference_of_first(case: Case, reference: Outputs) -> Outputs:
    """Return the reference's answers to the first input of `submit`, in the order of its images.

    Args:
        case: the label.
        reference: the reference's answers to the images of the pool.
    """
    return reference if parts_of(case) == 1 else _at(reference, image_places(case, len(reference), 0))


def check_parts(task: Task, case: Case, own: Sequence[Outputs], reference: Outputs) -> None:
    """Compare the answers of every batch of every input with the reference's, each batch by itself.

    Together, one wrong batch among many would hardly be heard. The signal is that of all the images of the pool.

    Args:
        task: the task of the model.
        case: the label.
        own: the runner's answers to each input, in the order iteration, replica, image.
        reference: the reference's answers to the images of the pool.

    Raises:
        WrongAnswers: a batch's answers differ by more than the precision allows; the message says which.
    """
    parts = parts_of(case)
    if parts == 1:
        return
    replicas = parts // device_iterations(case.settings)
    floor = PRECISIONS[case.precision].sqnr_floor_db
    share_db = 10 * math.log10((len(reference) + case.batch) / case.batch)
    for turn, answered in enumerate(own):
        places = image_places(case, len(reference), turn)
        if len(answered) != len(places):
            raise WrongAnswers(f"{len(answered)} answers came back to {len(places)} images")
        for part in range(parts):
            here = range(part * case.batch, (part + 1) * case.batch)
            found, wanted = _at(answered, here), _at(reference, [places[index] for index in here])
            whole = task.compare(Outputs.join([reference, wanted]), Outputs.join([reference, found]))
            if whole.sqnr_db - share_db < floor:
                raise WrongAnswers(
                    f"the answers of iteration {part // replicas + 1}, replica {part % replicas + 1} are "
                    f"{whole.sqnr_db - share_db:.1f} dB from the fp32 reference, the floor of {case.precision} is "
                    f"{floor:.0f} dB: iterations or replicas are swapped, or one of them did not run"
                )


def check_rows(task: Task, case: Case, runner: Runner, spec: ModelSpec, reference: Outputs) -> None:
    """Compare the answer of every row of a batch that is longer than the reference, in blocks of its length.

    The batch has the reference's images in rotation. An engine that leaves out the end of a batch would be fast there.

    Args:
        task: the task of the model.
        case: the label.
        runner: the runner, which answers one more batch.
        spec: the catalogue row of the model.
        reference: the reference's answers to the images of the pool.

    Raises:
        WrongAnswers: answers of some rows differ by more than the precision allows; the message says which.
    """
    if parts_of(case) > 1 or case.images <= len(reference):  # several batches of a submit: see `check_parts`
        return
    turns = [row % len(reference) for row in range(case.images)]
    batch = runner.put(case_images(case, spec, len(reference))[turns])
    (found,) = own_answers(runner, judged(runner, [batch], reference, case.images))
    check_blocks(task, case, found, reference)


def check_blocks(task: Task, case: Case, found: Outputs, reference: Outputs, begin: int = 0) -> None:
    """Compare answers to the reference's images in rotation with its own, in blocks of as many rows as it has.

    Args:
        task: the task of the model.
        case: the label.
        found: the answers, at least as many as the reference's.
        reference: the reference's answers.
        begin: the first row that is compared.

    Raises:
        WrongAnswers: a block differs by more than the precision allows; the message says which rows it has.
    """
    length, number = len(reference), len(found)
    for start in dict.fromkeys([*range(begin, number - length + 1, length), number - length]):
        rows = range(start, start + length)
        try:
            check_answers(task, case, [found.rows(rows)], reference.rows([row % length for row in rows]))
        except WrongAnswers as wrong:
            raise WrongAnswers(f"rows {start} to {start + length - 1} of a batch: {wrong}") from None


def _at(outputs: Outputs, places: Sequence[int]) -> Outputs:
    return Outputs(outputs.names, (array[list(places)] for array in outputs))
