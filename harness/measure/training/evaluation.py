"""Evaluation of a model in training, by the way of an image that the accuracy tests go, each image once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.cases import Case
from harness.data import ImageFile
from harness.devices import Device
from harness.engines.torch.runner import StepFindings, TorchRunner
from harness.engines.torch.training import TorchTrainingStep, set_training
from harness.host.cores import usable_cores
from harness.measure.accuracy.run import answer
from harness.measure.accuracy.thresholds import wilson
from harness.measure.pipeline import workers
from harness.measure.training.group import Group
from harness.proof import References, prepare
from models.catalog import ModelSpec
from models.tasks import task_of

BATCH = 32


@dataclass(frozen=True)
class RightCount:
    """How many images are right of how many, counted over all processes."""

    right: int
    images: int

    def record(self) -> dict[str, Any]:
        """Return the counts and the share with its 95% interval, serialisable as JSON."""
        share = wilson(self.right, self.images)
        interval = {"top1_pct": share.pct, "top1_low_pct": share.low_pct, "top1_high_pct": share.high_pct}
        return {"right": self.right, "images": self.images, **interval}

    def reaches(self, threshold: float | None) -> bool:
        """Return whether the share is at least the threshold, from the whole numbers that all processes have."""
        return threshold is not None and self.right / self.images >= threshold


def _silent(done: int, total: int, text: str) -> None:
    pass


def evaluate(
    step: TorchTrainingStep,
    case: Case,
    device: Device,
    spec: ModelSpec,
    images: Sequence[ImageFile],
    group: Group,
    *,
    keeps_batchnorm: bool,
) -> RightCount:
    """Return how many images the model has right. Every process takes every so-manieth image, and none is taken twice.

    All processes evaluate with the batch norms of the first.
    """
    group.same_buffers(step.module)
    step.module.eval()
    own = images[group.rank :: group.size]
    right = 0
    if own:
        runner = TorchRunner(
            step.module, step.module, case, device, prove=lambda events: StepFindings("eager"), layout=step.layout
        )
        task = task_of(spec)
        with workers(usable_cores()) as pool:
            found = answer(runner, task, task.transform(spec), own, min(BATCH, len(own)), pool, _silent)
        if found.unreadable:
            raise OSError(found.unreadable[0])
        right = int(task.score(found.top, [int(image.label or 0) for image in own])["top1"].sum())
    set_training(step.module, keeps_batchnorm=keeps_batchnorm)
    total, count = group.sum((right, len(own)))
    return RightCount(total, count)


def evaluate_saved(weights: Path, case: Case, spec: ModelSpec, images: Sequence[ImageFile]) -> dict[str, Any]:
    """Return the top-1 of saved weights, which are prepared and proven as for an accuracy test.

    Raises:
        Contradiction, WrongAnswers: the prepared model is not what its label says.
    """
    label = Case(case.model, case.device, case.precision, BATCH, "eager")
    ready = prepare(label, spec, weights, References(spec, weights))
    try:
        ready.require_label()
        task = task_of(spec)
        with workers(usable_cores()) as pool:
            found = answer(ready.runner, task, task.transform(spec), images, BATCH, pool, _silent)
        right = int(task.score(found.top, [int(image.label or 0) for image in images])["top1"].sum())
        read = int(found.is_read().sum())
        return {
            "case": str(label),
            "weights_sha256": ready.proof.identity["weights_sha256"],
            **RightCount(right, read).record(),
        }
    finally:
        ready.close()


def state_dict_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights and buffers of a module on the host, as a file of weights has them."""
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
