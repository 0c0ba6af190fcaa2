"""Running a detector over images, and what it found in each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from harness.data import ImageFile, Objects
from harness.engines import Runner
from harness.measure.accuracy.run import require_finite
from harness.measure.detection.evaluation import MOST_DETECTIONS
from harness.measure.pipeline import answers_of_files
from harness.progress import ReportShare
from models.tasks import Pixels, Task, WrongAnswers
from models.tasks.detections import Detections


@dataclass(frozen=True)
class Found:
    """What a detector found in the images of a sample.

    Attributes:
        by_image: the detections in each image that could be read, by the image's id, in the order of the images.
        unreadable: the error message for each file that could not be read.
        wall_s: the seconds from before the first file was read until the last boxes were on the host.
        batches: the number of batches that were submitted.
    """

    by_image: Mapping[int, Detections]
    unreadable: Sequence[str]
    wall_s: float
    batches: int

    def count(self) -> int:
        """Return the number of detections in all images."""
        return sum(map(len, self.by_image.values()))

    def sha256(self) -> str:
        """Return a hash of all detections with their images."""
        digest = hashlib.sha256()
        for image_id, found in sorted(self.by_image.items()):
            digest.update(f"{image_id} {len(found)}".encode())
            for values in (found.boxes, found.scores, found.labels):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def find(
    runner: Runner,
    task: Task,
    transform: Pixels,
    images: Sequence[ImageFile],
    objects: Objects,
    batch: int,
    pool: ThreadPoolExecutor,
    report: ReportShare,
) -> Found:
    """Return the objects that a detector finds in every image, at most a hundred in each, the likeliest.

    Args:
        runner: the warm model, compiled for batches of `batch` images.
        task: the task of the model.
        transform: converts a decoded image to fp32 [3, h, w].
        images: the images, each with its id.
        objects: the annotations, which say how large each image is.
        batch: the number of images in a batch.
        pool: the threads that decode and preprocess.
        report: called with the progress before the first batch and after each.

    Raises:
        WrongAnswers: the outputs are NaN or infinite.
    """
    by_image: dict[int, Detections] = {}
    unreadable: list[str] = []
    batches = detections = 0
    report(0, len(images), "")
    began = perf_counter()
    for indices, outputs in answers_of_files(
        runner, transform, images, batch, pool, on_unreadable=lambda index, error: unreadable.append(str(error))
    ):
        require_finite(outputs, [images[index] for index in indices])
        ids = [image_id_of(images[index]) for index in indices]
        sizes = [objects.sizes[image_id][::-1] for image_id in ids]  # height and width
        for image_id, one in zip(ids, task.decode(outputs, sizes), strict=True):
            by_image[image_id] = likeliest(one)
            detections += len(by_image[image_id])
        batches += 1
        done = len(by_image) + len(unreadable)
        report(done, len(images), f"{detections / len(by_image):.0f} detections an image")
    wall_s = perf_counter() - began
    if not by_image:
        raise WrongAnswers(f"none of {len(images)} images could be read; the first: {unreadable[0]}")
    return Found(by_image, tuple(unreadable), wall_s, batches)


def image_id_of(image: ImageFile) -> int:
    """Return the image's id in the annotations, which an annotated image has."""
    assert image.image_id is not None, f"{image} is not annotated"
    return image.image_id


def likeliest(found: Detections, count: int = MOST_DETECTIONS) -> Detections:
    """Return the detections of the highest scores, in their order."""
    order = np.argsort(-found.scores, kind="stable")[:count]
    return Detections(found.boxes[order], found.scores[order], found.labels[order])
