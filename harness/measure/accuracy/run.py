"""Running a model over labelled images: the sample of images, and the model's answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from harness.data import IMAGENET_CLASSES, DataSet, ImageFile, images_sha256
from harness.engines import Runner
from harness.measure.pipeline import answers_of_files
from harness.progress import ReportShare
from models.tasks import Outputs, Pixels, Task, WrongAnswers

Ranked = npt.NDArray[np.int16]

TOP = 5
# If the outputs for different images differ by no more than this share of their magnitude, the model ignores its input.
LEAST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Sample:
    """The images of a run, and the data set that they come from.

    Attributes:
        data: the whole data set.
        images: the images that are run, in order.
        seed: the seed of the random draw.
    """

    data: DataSet
    images: Sequence[ImageFile]
    seed: int

    def sha256(self) -> str:
        """Return a hash of which images are in the sample, in which order."""
        return images_sha256(self.images)


@dataclass(frozen=True)
class Answers:
    """The answers of a model to the images of a sample.

    Attributes:
        top: class indices [n, 5], the most likely first; -1 where the image could not be read.
        unreadable: the error message for each file that could not be read.
        wall_s: the seconds from before the first file was read until the last class was on the host.
        batches: the number of batches that were submitted.
    """

    top: Ranked
    unreadable: Sequence[str]
    wall_s: float
    batches: int

    def is_read(self) -> npt.NDArray[np.bool_]:
        """Return for each image whether it could be read, as a boolean array [n]."""
        is_read: npt.NDArray[np.bool_] = self.top[:, 0] >= 0
        return is_read


def answer(
    runner: Runner,
    task: Task,
    transform: Pixels,
    images: Sequence[ImageFile],
    batch: int,
    pool: ThreadPoolExecutor,
    report: ReportShare,
) -> Answers:
    """Return the five most likely classes for every image, in the order of the images.

    Args:
        runner: the warm model, compiled for batches of `batch` images.
        task: the task of the model.
        transform: converts a decoded image to fp32 [3, h, w].
        images: the images to answer.
        batch: the number of images in a batch.
        pool: the threads that decode and preprocess.
        report: called with the progress before the first batch and after each.

    Raises:
        WrongAnswers: the outputs have another shape, are NaN or infinite, or are the same for every image.
    """
    top = np.full((len(images), TOP), -1, dtype=np.int16)
    unreadable: list[str] = []
    first: Outputs | None = None
    differs = len(images) < 2
    right = seen = batches = 0
    report(0, len(images), "")
    began = perf_counter()
    for indices, outputs in answers_of_files(
        runner, transform, images, batch, pool, on_unreadable=lambda index, error: unreadable.append(str(error))
    ):
        if task.labels(outputs) != IMAGENET_CLASSES:
            raise WrongAnswers(
                f"the model has {task.labels(outputs)} classes; the labels are of {IMAGENET_CLASSES} classes"
            )
        require_finite(outputs, [images[index] for index in indices])
        first = outputs.first(1).copy() if first is None else first
        differs = differs or _differs(outputs, first)
        top[indices] = task.ranked(outputs)
        right += sum(images[index].label == top[index, 0] for index in indices)
        seen += len(indices)
        batches += 1
        report(seen + len(unreadable), len(images), f"top-1 {100 * right / seen:.2f}%")
    wall_s = perf_counter() - began
    if not differs:
        names = " and ".join(first.names if first is not None else ())
        raise WrongAnswers(f"all {seen} images get the same {names}: the model does not see its input")
    return Answers(top, tuple(unreadable), wall_s, batches)


def require_finite(outputs: Outputs, images: Sequence[ImageFile]) -> None:
    """Raise `WrongAnswers`, naming the image, if an output is NaN or infinite.

    Args:
        outputs: the answers to a batch.
        images: the images of the batch, in its order.
    """
    for name, array in zip(outputs.names, outputs, strict=True):
        if not np.isfinite(array).all():
            is_whole = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            broken = images[int(np.flatnonzero(~is_whole)[0])]
            raise WrongAnswers(f"{name} of {broken} are NaN or infinite")


def _differs(outputs: Outputs, first: Outputs) -> bool:
    """Return whether any of the outputs differs from those of the first image."""
    pairs = zip(outputs, first, strict=True)
    return any(np.abs(some - one).max() > LEAST_DIFFERENCE * max(np.abs(one).max(), 1e-12) for some, one in pairs)
