"""Training on labelled images: the recipe, order, checkpoints, evaluation, and the record of a run."""

from __future__ import annotations

from harness.measure.training.group import Group, alone
from harness.measure.training.recipe import Recipe, TrainingError
from harness.measure.training.run import train
from harness.measure.training.state import Moment

__all__ = ["Group", "Moment", "Recipe", "TrainingError", "alone", "train"]
