"""The check of every batch of a submit that takes several: of each iteration, and of each replica's share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.cases import PRECISIONS, Case
from harness.cases.setting import device_iterations
from harness.proof.inputs import image_places, parts_of
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


def _at(outputs: Outputs, places: Sequence[int]) -> Outputs:
    return Outputs(outputs.names, (array[list(places)] for array in outputs))
