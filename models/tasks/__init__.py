"""Owns what depends on the task of a model, such as classification: a file a task, behind one protocol.

It must not know devices, engines or pytest. No module outside this folder asks which task a model has.
"""

from __future__ import annotations

from models.catalog import ModelSpec
from models.tasks import classify
from models.tasks.outputs import Outputs, output_names
from models.tasks.protocol import Agreement, Pixels, Scores, Task, WrongAnswers

__all__ = ["Agreement", "Outputs", "Pixels", "Scores", "Task", "WrongAnswers", "output_names", "task_of"]

# A module with the functions of the protocol is a task.
_TASKS: dict[str, Task] = {"classify": classify}


def task_of(spec: ModelSpec) -> Task:
    """The task of a model."""
    return _TASKS[spec.task]
