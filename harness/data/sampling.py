"""Draws images from a data set: a sample to evaluate, and others to calibrate on."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from harness.data.images import ImageFile, NoImages

CALIBRATION_IMAGES = 128
# Activation ranges from fewer images than this say more about the images than about the model.
LEAST_CALIBRATION_IMAGES = 8
# Not the seed of a sample that is evaluated.
CALIBRATION_SEED = 1


def sample_images(images: Sequence[ImageFile], count: int | None, seed: int = 0) -> list[ImageFile]:
    """Draw `count` of the images, or all for None, without replacement and stratified over the classes.

    A class's images are shuffled and spread evenly over the whole order from a random start, so that the first images
    of the sample, however many are taken, hold each class in its proportion, within one image. The result depends on
    the images' names and classes alone, not on the order in which they are given. Unlabelled images count as one class.

    Args:
        images: all images to draw from.
        count: how many images to draw; more than there are means all.
        seed: the seed of the random draw.
    """
    classes: dict[int | None, list[ImageFile]] = defaultdict(list)
    for image in sorted(images, key=lambda one: (one.name, str(one))):
        classes[image.label].append(image)
    placed: list[tuple[float, str, ImageFile]] = []
    for label, members in classes.items():
        generator = random.Random(f"{seed}:{label}")
        generator.shuffle(members)
        start = generator.random()
        placed.extend(((rank + start) / len(members), image.name, image) for rank, image in enumerate(members))
    placed.sort(key=lambda one: one[:2])
    return [image for _, _, image in placed[:count]]


def images_sha256(images: Iterable[ImageFile]) -> str:
    """Return a digest of the images' names and classes, which identifies the images and their order."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name}\0{image.label}\n".encode())
    return digest.hexdigest()


def files_sha256(images: Iterable[ImageFile]) -> str:
    """Return a digest of name, size and modification time of every file that holds images.

    It changes where a file is replaced under its name. A file that is not in the file system, as that of a reader which
    opens images by itself, is left out.
    """
    digest = hashlib.sha256()
    for path in sorted({image.path for image in images}):
        if path.exists():
            state = path.stat()
            digest.update(f"{path.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def split_calibration(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Split the files into a sample to calibrate on and the others, in their order, to evaluate.

    The sample is drawn with a fixed seed and holds at most half of the files.

    Raises:
        NoImages: if there are too few files for both.
    """
    count = min(CALIBRATION_IMAGES, len(files) // 2)
    if count < LEAST_CALIBRATION_IMAGES:
        raise NoImages(
            f"int8 is calibrated on images apart from those evaluated, and takes {2 * LEAST_CALIBRATION_IMAGES} for "
            f"both, not {len(files)}"
        )
    chosen = sample_images(files, count, CALIBRATION_SEED)
    taken = set(chosen)
    return chosen, [file for file in files if file not in taken]
