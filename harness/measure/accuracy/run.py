"""The run over labelled images: which images, and what a model said of each."""

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
# Outputs for different images differ by more than this share of their size, or the model does not look at its input.
LEAST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Sample:
    """The images of a run, and the set that they are of.

    Attributes:
        data: the whole set.
        images: those that are run, in their order.
        seed: of the draw.
    """

    data: DataSet
    images: Sequence[ImageFile]
    seed: int

    def sha256(self) -> str:
        """Which images, in which order."""
        return images_sha256(self.images)


@dataclass(frozen=True)
class Answers:
    """What a model said of the images of a sample.

    Attributes:
        top: [n, 5] class indices, the likeliest first; -1 where the image could not be read.
        unreadable: what was wrong with each file that could not be read.
        wall_s: from before the first file was read until the last class was on the host.
        batches: submitted.
    """

    top: Ranked
    unreadable: Sequence[str]
    wall_s: float
    batches: int

    def is_read(self) -> npt.NDArray[np.bool_]:
        """[n], whether each image could be read."""
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
    """The first five labels of every image, in the images' order.

    Raises:
        WrongAnswers: outputs of another shape, NaN or infinite, or the same for every image.
    """
    top = np.full((len(images), TOP), -1, dtype=np.int16)
    unreadable: list[str] = []
    first: Outputs | None = None
    differs = len(images) < 2
    right = seen = batches = 0
    began = perf_counter()
    for indices, outputs in answers_of_files(
        runner, transform, images, batch, pool, on_unreadable=lambda index, error: unreadable.append(str(error))
    ):
        if task.labels(outputs) != IMAGENET_CLASSES:
            raise WrongAnswers(
                f"the model has {task.labels(outputs)} classes; the labels are of {IMAGENET_CLASSES} classes"
            )
        for name, array in zip(outputs.names, outputs, strict=True):
            if not np.isfinite(array).all():
                is_whole = np.isfinite(array).reshape(len(array), -1).all(axis=1)
                broken = images[indices[int(np.flatnonzero(~is_whole)[0])]]
                raise WrongAnswers(f"{name} of {broken} are NaN or infinite")
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


def _differs(outputs: Outputs, first: Outputs) -> bool:
    """Whether any of the outputs differs from the first image's."""
    pairs = zip(outputs, first, strict=True)
    return any(np.abs(some - one).max() > LEAST_DIFFERENCE * max(np.abs(one).max(), 1e-12) for some, one in pairs)
