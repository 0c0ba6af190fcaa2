"""Drawing images from a data set: a sample to evaluate, and others to calibrate on."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

from harness.data.images import ImageFile, NoImages

CALIBRATION_IMAGES = 128
# Ranges of fewer images than these say more of the images than of the model.
LEAST_CALIBRATION_IMAGES = 8
# Another seed than that of a sample that is evaluated.
CALIBRATION_SEED = 1


def sample_images(images: Sequence[ImageFile], count: int | None, seed: int = 0) -> list[ImageFile]:
    """`count` of the images, or all for None, drawn without replacement and stratified over the classes.

    A class's images are shuffled and spread evenly over the whole order from a random start, so that every first
    part of the sample holds each class in its proportion, within one image. The result depends on the images' names
    and classes alone, not on the order in which they are given. Unlabelled images are one class.

    Args:
        images: all of them.
        count: how many; more than there are means all.
        seed: of the generator.
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
    """Which images these are, in which order: a digest of their names and classes."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.name}\0{image.label}\n".encode())
    return digest.hexdigest()


def split_calibration(files: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """A seeded sample to calibrate on, at most half of the files, and the others, in their order, to evaluate.

    Raises:
        NoImages: too few for both.
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
