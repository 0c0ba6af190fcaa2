"""The recipe of a training run: everything that decides what the weights become, and what is asked of the run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from harness.cases import Case

BASE_BATCH = 256
BASE_RATE, FINE_TUNE_RATE = 0.128, 0.1
SCHEDULES = ("cosine", "steps")
# The epochs after which the schedule `steps` divides the rate by ten.
STEPS_AT_EPOCHS = (30, 60, 80)
BATCH_NORMS = ("auto", "train", "frozen", "refit", "sync")
# What a run that goes on from a checkpoint may change: when it ends, what is asked of it, and where it keeps things.
_FREE = ("steps", "stop_threshold", "evaluates", "epochs_between_evals", "folder", "cache_dir", "save_every", "loaders")


class TrainingError(RuntimeError):
    """A training run cannot begin or go on; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        model: the model's name.
        weights: `random` (the library's own initialisation), `pretrained` or the path of a file.
        data: the data set to train on, as `open_data_set` takes it.
        eval_data: the data set to evaluate on; None for the validation split beside the training split, and where there
            is none, for the images that are trained on.
        labels: a CSV of the images' classes, None where folders name them.
        is_numbered: whether folders are named by class indices.
        device: the device.
        precision: the precision.
        engine: the engine.
        batch: the images of one replica in one step.
        num_inputs: how many images to train on, None for all.
        steps: the number of steps after which the run ends, None for none.
        train_epochs: the number of epochs after which the run ends, and over which the schedule goes.
        epochs_between_evals: evaluate after so many epochs; None for every epoch with a threshold, and else never.
        stop_threshold: the share of right images at which the run ends, None for none.
        evaluates: whether the saved weights are evaluated in the end.
        learning_rate: the rate after warm-up; None for the base rate times the global batch over 256.
        fine_tune: whether the base rate is 0.1 instead of 0.128.
        schedule: `cosine` or `steps`.
        warmup_epochs: the epochs over which the rate grows from 0.
        momentum: the momentum of SGD.
        weight_decay: the weight decay of all parameters but biases and those of norms.
        label_smoothing: the share of a label that is spread over all classes.
        batch_norm: `train`; `frozen`, which keeps statistics; `refit`, which sets them anew first; `sync`, over all
            replicas; `auto`, which freezes folded ones and trains others.
        augments: whether images are cropped and mirrored at random; else they are prepared as for evaluation.
        seed: the seed of the order, of augmentation and of random weights.
        loaders: the processes of each replica that read images, 0 for none beside it.
        save_every: write a checkpoint after so many steps, None for every epoch.
        folder: where checkpoints, weights and the record are written.
        cache_dir: the folder for data that has to be fetched.
    """

    model: str
    data: str
    folder: str
    cache_dir: str
    weights: str = "random"
    eval_data: str | None = None
    labels: str | None = None
    is_numbered: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    engine: str = "eager"
    batch: int = 64
    num_inputs: int | None = None
    steps: int | None = None
    train_epochs: int = 90
    epochs_between_evals: int | None = None
    stop_threshold: float | None = None
    evaluates: bool = False
    learning_rate: float | None = None
    fine_tune: bool = False
    schedule: str = "cosine"
    warmup_epochs: float = 5
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    batch_norm: str = "auto"
    augments: bool = True
    seed: int = 0
    loaders: int = 0
    save_every: int | None = None

    @property
    def case(self) -> Case:
        """The label of one replica."""
        return Case(self.model, self.device, self.precision, self.batch, self.engine)

    def rate(self, replicas: int) -> float:
        """Return the learning rate after warm-up of a run of so many replicas."""
        if self.learning_rate is not None:
            return self.learning_rate
        base = FINE_TUNE_RATE if self.fine_tune else BASE_RATE
        return base * self.batch * replicas / BASE_BATCH

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe, serialisable as JSON."""
        return asdict(self)

    def fixed(self) -> dict[str, Any]:
        """Return what a run that goes on from a checkpoint must have in common with the run that wrote it."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}

    def sha256(self) -> str:
        """Return a digest of `fixed`."""
        return hashlib.sha256(json.dumps(self.fixed(), sort_keys=True).encode()).hexdigest()
