"""Image files and data sets, and generated image files for when no data set is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from models.preprocess import generated_images

if TYPE_CHECKING:
    from harness.data.coco.objects import Objects

GENERATED_SIZE = (400, 400)
GENERATED_QUALITY = 92


@dataclass(frozen=True)
class ImageFile:
    """An encoded image and its class index among the 1,000 of ILSVRC2012.

    Attributes:
        path: the file of the image, or the file or data set that holds it among others.
        label: the class index, None if the data set does not say.
        member: the image's own name if `path` holds other images too.
        opener: returns the encoded image if the image is not a file of its own.
        image_id: the image's id in annotations of objects, None without annotations.
    """

    path: Path
    label: int | None
    member: str | None = None
    opener: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    image_id: int | None = None

    @property
    def name(self) -> str:
        """The image's file name without the folder, by which the same image is called in every layout."""
        return self.member or self.path.name

    @property
    def size_bytes(self) -> int:
        """The size of the encoded image in bytes. An image that is no file of its own is read for it."""
        return self.path.stat().st_size if self.opener is None else len(self.opener())

    def read(self) -> bytes:
        """Return the encoded image."""
        return self.path.read_bytes() if self.opener is None else self.opener()

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"


class UnreadableImage(ValueError):
    """A file is not a whole image; the message names it."""


class NoImages(ValueError):
    """Something cannot be used as a data set; the message says why."""


@dataclass(frozen=True)
class DataSet:
    """Images and where they come from.

    Attributes:
        name: the name that the user gave.
        route: how the data set was read: a folder, archives, tfrecord, a URL's scheme or one of timm's readers.
        images: all images of the data set.
        is_validation_set: whether this is the whole set that published scores are of: the validation set of ILSVRC2012
            or, with objects, val2017 of COCO.
        objects: what annotations mark in the images, None if the images are not annotated.
    """

    name: str
    route: str
    images: tuple[ImageFile, ...]
    is_validation_set: bool
    objects: Objects | None = None


def write_generated_jpegs(folder: Path, count: int) -> list[ImageFile]:
    """Write generated images as JPEG files, for when no data set is at hand.

    They have 400 x 400 pixels, quality 92 and no labels.
    """
    files = []
    for index, pixels in enumerate(generated_images(count, GENERATED_SIZE)):
        path = folder / f"{index:05d}.JPEG"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=GENERATED_QUALITY)
        files.append(ImageFile(path, None))
    return files
