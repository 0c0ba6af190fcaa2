"""The images of a training run: which are trained on, in which order, and how each becomes a tensor.

The order of an epoch comes from the seed and the number of the epoch alone, and the randomness of an image from the
seed, the epoch and the image. So a run that goes on from a step sees what an unbroken run sees there, however many
processes read the images.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.data import DataSet, ImageFile, NoImages, decode, images_sha256, open_data_set, sample_images
from harness.measure.training.group import Group
from harness.measure.training.recipe import Recipe, TrainingError
from models.catalog import ModelSpec
from models.tasks import Pixels, task_of

Place = tuple[int, int]
_EPOCH_FACTOR = 1_000_003
# torch takes no larger seeds, and a date as the seed of a run over many images would give one.
_SEEDS = 2**63


@dataclass(frozen=True)
class TrainingImages:
    """The images of a run.

    Attributes:
        data: the data set that is trained on.
        images: the images that are trained on.
        evaluated: the images that are evaluated.
        evaluated_on: what the evaluated images are, in words.
        per_epoch: the steps of an epoch.
        dropped: the images at the end of each epoch that fill no step.
    """

    data: DataSet
    images: Sequence[ImageFile]
    evaluated: Sequence[ImageFile]
    evaluated_on: str
    per_epoch: int
    dropped: int

    @property
    def sha256(self) -> str:
        """A digest of the images that are trained on."""
        return images_sha256(self.images)


def open_images(recipe: Recipe, replicas: int) -> TrainingImages:
    """Open the data sets of a recipe.

    Raises:
        TrainingError: there is nothing to train on, or not enough, or without classes, or of one class.
    """
    folder = Path(recipe.data).expanduser()
    train, held = (next((folder / name for name in names if (folder / name).is_dir()), None) for names in _SPLITS)
    data = _open(str(train) if train is not None else recipe.data, "--data", recipe)
    images = sample_images(data.images, recipe.num_inputs, recipe.seed)
    unlabelled = next((image for image in images if image.label is None), None)
    if unlabelled is not None:
        raise TrainingError(
            f"{unlabelled} has no class to learn: name the folders by wnids, or give --labels or --class-folders index"
        )
    classes = {image.label for image in images}
    if len(classes) == 1:
        raise TrainingError(f"all {len(images)} images of {recipe.data} are of one class: there is nothing to learn")
    step = recipe.batch * replicas
    if step > len(images):
        raise TrainingError(
            f"one step takes {step} images ({replicas} x {recipe.batch}), and there are {len(images)}: lower "
            f"--batch-size or --replicas"
        )
    if recipe.eval_data is not None:
        other = _open(recipe.eval_data, "--eval-data", recipe)
        evaluated, what = other.images, f"the images of {recipe.eval_data}"
    elif train is not None and held is not None:
        evaluated, what = _open(str(held), "--data", recipe).images, f"the images of {held}"
    else:
        evaluated, what = tuple(images), "the images trained on"
    return TrainingImages(data, images, evaluated, what, len(images) // step, len(images) % step)


_SPLITS = (("train",), ("val", "validation"))


def _open(name: str, option: str, recipe: Recipe) -> DataSet:
    labels = None if recipe.labels is None else Path(recipe.labels)
    try:
        return open_data_set(name, Path(recipe.cache_dir), labels=labels, is_numbered=recipe.is_numbered)
    except NoImages as error:
        raise TrainingError(f"{option} {name}: {error}") from None


def transform_of(recipe: Recipe, spec: ModelSpec) -> Pixels:
    """Return timm's random crops and mirroring for the input of the model, or the transform of evaluation."""
    if not recipe.augments:
        return task_of(spec).transform(spec)
    from timm.data import create_transform

    into: Any = spec.input
    found: Pixels = create_transform(
        (3, *into.size),
        is_training=True,
        color_jitter=0.0,
        interpolation=into.interpolation if into.interpolation in ("bilinear", "bicubic") else "bilinear",
        mean=into.mean,
        std=into.std,
    )
    return found


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """The images of a run as torch's loader reads them. An item is asked for by its epoch and its index."""

    def __init__(self, images: Sequence[ImageFile], transform: Pixels, seed: int) -> None:
        """Read these images."""
        self._images, self._transform, self._seed = images, transform, seed

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        """Return one image, fp32 [3, h, w], and its class.

        Raises:
            UnreadableImage: the file is not a whole image.
        """
        epoch, index = place
        image = self._images[index]
        with _seeded(((self._seed * _EPOCH_FACTOR + epoch) * len(self._images) + index) % _SEEDS):
            return self._transform(decode(image)), int(image.label or 0)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators that timm's transforms draw from, and put them back on leaving."""
    before = random.getstate()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        torch.default_generator.manual_seed(seed)  # the host's alone: steps draw from those of accelerators
        try:
            yield
        finally:
            random.setstate(before)


class StepOrder:
    """For each step, the epoch and the index of each of its images, for one of the processes."""

    def __init__(self, recipe: Recipe, images: TrainingImages, steps: range, group: Group) -> None:
        """Give these steps, in their order."""
        self._recipe, self._images, self._steps, self._group = recipe, images, steps, group

    def __len__(self) -> int:
        """The number of steps."""
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Place]]:
        """Yield the images of each step."""
        of, order = -1, list[int]()
        batch, group = self._recipe.batch, self._group
        for step in self._steps:
            epoch, within = divmod(step, self._images.per_epoch)
            if epoch != of:
                generator = torch.Generator().manual_seed((self._recipe.seed * _EPOCH_FACTOR + epoch) % _SEEDS)
                of, order = epoch, torch.randperm(len(self._images.images), generator=generator).tolist()
            begin = (within * group.size + group.rank) * batch
            yield [(epoch, index) for index in order[begin : begin + batch]]


def batches(
    recipe: Recipe, spec: ModelSpec, images: TrainingImages, steps: range, group: Group
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images, fp32 [batch, 3, h, w], and classes, [batch], of each of these steps, by torch's loader."""
    loader = DataLoader(
        TrainingSet(images.images, transform_of(recipe, spec), recipe.seed),
        batch_sampler=StepOrder(recipe, images, steps, group),
        num_workers=recipe.loaders,
        generator=torch.Generator().manual_seed(recipe.seed),  # else it would draw from the global one
    )
    yield from loader
