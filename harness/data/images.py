"""The image file and the data set, decoding, and image files that are generated where no data set is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import PIL
from PIL import Image

from models.preprocess import generated_images

DECODER = f"Pillow {PIL.__version__}"
GENERATED_SIZE = (400, 400)
GENERATED_QUALITY = 92


@dataclass(frozen=True)
class ImageFile:
    """An encoded image and its class of the 1,000, or None where the data set does not say.

    Attributes:
        path: the file, or what holds the image among others.
        label: class index.
        member: the image's own name where `path` holds others too.
        opener: gives the encoded image where it is no file of its own.
    """

    path: Path
    label: int | None
    member: str | None = None
    opener: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Its file name, without the folder: what the same image is called in every layout."""
        return self.member or self.path.name

    @property
    def size_bytes(self) -> int:
        """Of the encoded image."""
        return self.path.stat().st_size if self.opener is None else len(self.opener())

    def read(self) -> bytes:
        """The encoded image."""
        return self.path.read_bytes() if self.opener is None else self.opener()

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"


class UnreadableImage(ValueError):
    """A file that is no whole image; the message names it."""


class NoImages(ValueError):
    """What cannot be used as a data set."""


@dataclass(frozen=True)
class DataSet:
    """Images and where they come from.

    Attributes:
        name: as the user gave it.
        route: how it was read: folder, archives, tfrecord, a URL's scheme, a reader of timm's.
        images: all of them.
        is_validation_set: whether this is the whole ILSVRC2012 validation set.
    """

    name: str
    route: str
    images: tuple[ImageFile, ...]
    is_validation_set: bool


def decode(file: ImageFile) -> Image.Image:
    """The file read and decoded to RGB.

    Raises:
        UnreadableImage: it is truncated, or no image.
    """
    try:
        with Image.open(BytesIO(file.read())) as image:
            decoded: Image.Image = image.convert("RGB")
            return decoded
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNG files
        raise UnreadableImage(f"{file}: {error}") from error


def write_generated_jpegs(folder: Path, count: int) -> list[ImageFile]:
    """Generated images as JPEG files, where no data set is at hand: 400 x 400 pixels, quality 92, no labels."""
    files = []
    for index, pixels in enumerate(generated_images(count, GENERATED_SIZE)):
        path = folder / f"{index:05d}.JPEG"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=GENERATED_QUALITY)
        files.append(ImageFile(path, None))
    return files
