"""What a training run is made of, and what changes while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.devices import Device
from harness.engines.torch.training import TorchTrainingStep
from harness.measure.training import checkpoint
from harness.measure.training.group import Group
from harness.measure.training.order import TrainingImages
from harness.measure.training.recipe import Recipe, TrainingError
from models.catalog import ModelSpec


@dataclass(frozen=True)
class Moment:
    """How far a run is.

    Attributes:
        step: the steps that are done.
        steps: the steps in all.
        loss: the latest loss.
        images_per_second: the images of all replicas a second.
        left_s: the seconds that are left.
    """

    step: int
    steps: int
    loss: float
    images_per_second: float
    left_s: float


@dataclass(frozen=True)
class Parts:
    """What stays the same while a run goes on.

    Attributes:
        recipe: the recipe.
        spec: the catalogue row of the model.
        images: the images.
        group: the processes that train together.
        step: the training step of this process.
        device: its device.
        keeps_batchnorm: whether batch norms are frozen.
        report: called with the progress.
        tell: called with what a user should know, a line each.
    """

    recipe: Recipe
    spec: ModelSpec
    images: TrainingImages
    group: Group
    step: TorchTrainingStep
    device: Device
    keeps_batchnorm: bool
    report: Callable[[Moment], None]
    tell: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.recipe.folder)

    @property
    def steps(self) -> int:
        """The number of steps after which the run ends."""
        whole = self.recipe.train_epochs * self.images.per_epoch
        return whole if self.recipe.steps is None else min(whole, self.recipe.steps)

    @property
    def global_batch(self) -> int:
        """The images of one step of all replicas."""
        return self.recipe.batch * self.group.size


@dataclass
class Course:
    """What changes while a run goes on.

    Attributes:
        position: the steps that are done.
        began_at: the position at which this process began.
        losses: the loss of each step that was read.
        pending: the losses that are still on the device.
        evaluations: the record of each evaluation.
        evaluation_s: the seconds that evaluations took since this process began.
        checkpoint_s: the seconds that checkpoints took since then.
        earlier_s: the seconds that the run took before this process went on with it.
        reached_s: the seconds after which the threshold was reached, None while it is not; at most 0 if that was before
            this process went on with the run.
        saved_at: the position of the latest checkpoint, None without one.
        had_rate: whether a step since this process began had a learning rate above 0.
    """

    position: int = 0
    began_at: int = 0
    losses: list[float] = field(default_factory=list)
    pending: list[Tensor] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    evaluation_s: float = 0.0
    checkpoint_s: float = 0.0
    earlier_s: float = 0.0
    reached_s: float | None = None
    saved_at: int | None = None
    had_rate: bool = False


def label() -> dict[str, Any]:
    """Return what the last bits of a step depend on."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
    }


def save(parts: Parts, course: Course, elapsed_s: float) -> None:
    """Write a checkpoint. Every process has to call it, and none of them with a loss that is no number.

    Args:
        parts: what stays the same.
        course: what changes.
        elapsed_s: the seconds since this process began.

    Raises:
        TrainingError: it cannot be written.
    """
    step = parts.step
    states = parts.group.gather(checkpoint.random_state(parts.device))
    losses = parts.group.gather(course.losses)
    if parts.group.is_first:
        checkpoint.write_checkpoint(
            parts.folder / checkpoint.NAME,
            {
                "model": step.module.state_dict(),
                "optimiser": step.optimiser.state_dict(),
                "scaler": step.scaler_state(),
                "random": states,
                "position": course.position,
                "losses": losses,
                "evaluations": course.evaluations,
                "elapsed_s": course.earlier_s + elapsed_s,
                "reached_s": None if course.reached_s is None else course.earlier_s + course.reached_s,
                "stop_threshold": parts.recipe.stop_threshold,
                "replicas": parts.group.size,
                "images_sha256": parts.images.sha256,
                "recipe": parts.recipe.fixed(),
                "label": label(),
                "layout": {"name": step.layout.name, "why": step.layout.why},
            },
        )
    course.saved_at = course.position


def go_on(parts: Parts) -> Course:
    """Return the course of the checkpoint, which the first process reads for all, and put the step into its state.

    Raises:
        TrainingError: there is no checkpoint that this run can go on from.
    """
    path = parts.folder / checkpoint.NAME
    found: dict[str, Any] | None = None
    error: str | None = None
    if parts.group.is_first:
        try:
            found = checkpoint.read_checkpoint(path, parts.recipe, parts.images.sha256, parts.group.size)
        except TrainingError as failure:
            error = str(failure)
    found, error = parts.group.share((found, error))
    if found is None:
        raise TrainingError(error or f"no checkpoint {path}")
    parts.step.module.load_state_dict(found["model"])
    parts.step.optimiser.load_state_dict(found["optimiser"])
    parts.step.load_scaler_state(found["scaler"])
    checkpoint.set_random_state(found["random"][parts.group.rank], parts.device)
    for name, now in label().items():
        if found["label"].get(name) != now:
            parts.tell(f"the checkpoint is of {name} {found['label'].get(name)}, now {now}: the last bits may differ")
    parts.tell(f"going on from step {found['position']} of {path}")
    at, earlier_s = int(found["position"]), float(found["elapsed_s"])
    reached_s = found.get("reached_s") if found.get("stop_threshold") == parts.recipe.stop_threshold else None
    return Course(
        position=at,
        began_at=at,
        losses=list(found["losses"][parts.group.rank]),
        evaluations=list(found["evaluations"]),
        earlier_s=earlier_s,
        reached_s=None if reached_s is None else float(reached_s) - earlier_s,
        saved_at=at,
    )
