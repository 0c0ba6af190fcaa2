"""A training run as a row: the numbers that `visionmark train` has written, and whether it kept what it promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar


class TrainingFailure(AssertionError):
    """A training run did not do what was asked of it."""


@dataclass(frozen=True)
class TrainingRun:
    """A training run, from the first step to its stop, from image files.

    `images_per_second` is the images of all replicas over the window that they have in common, less evaluations and
    checkpoints. The means are those of the first and the last four losses.
    """

    kind: ClassVar[str] = "training"

    images_per_second: float | None
    images: int
    wall_s: float
    evaluation_s: float
    checkpoint_s: float
    steps: int
    epochs: float
    first_loss: float | None
    last_loss: float | None
    first_losses_mean: float | None
    last_losses_mean: float | None
    is_reached: bool
    time_to_threshold_s: float | None
    stop_threshold: float | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> TrainingRun:
        """Take the numbers from a record of a run."""
        return cls(**{one.name: record[one.name] for one in fields(cls)})

    def require_training(self) -> None:
        """Check that the run trained.

        Raises:
            TrainingFailure: the threshold was not reached, or the loss did not fall.
        """
        if self.stop_threshold is not None and not self.is_reached:
            raise TrainingFailure(f"the threshold {self.stop_threshold:g} was not reached in {self.steps} steps")
        first, last = self.first_losses_mean, self.last_losses_mean
        if first is None or last is None or not last < first:  # not a number is no fall
            raise TrainingFailure(f"the loss did not fall: {first} (mean of the first 4 steps), {last} (of the last 4)")
