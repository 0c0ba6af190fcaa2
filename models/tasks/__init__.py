"""The tasks of models, such as classification: one module for each task, behind one protocol.

Nothing here may depend on devices, engines or pytest. No module outside this folder asks which task a model has.
"""

from __future__ import annotations

from collections.abc import Callable

from models.catalog import ModelSpec
from models.tasks import classify
from models.tasks.detect import Detect
from models.tasks.detections import Detections
from models.tasks.outputs import Outputs, output_names
from models.tasks.protocol import Agreement, Pixels, Scores, Task, WrongAnswers

__all__ = ["Agreement", "Detections", "Outputs", "Pixels", "Scores", "Task", "WrongAnswers", "output_names", "task_of"]

# A task is a module, or an object, that has the functions of the protocol.
_TASKS: dict[str, Callable[[ModelSpec], Task]] = {"classify": lambda spec: classify, "detect": Detect}


def task_of(spec: ModelSpec) -> Task:
    """Return the task of a model."""
    return _TASKS[spec.task](spec)
