"""Image files and their labels: finding them in a folder, choosing some, decoding one, making some.

Owns the layouts it understands. The class index comes from the full sorted list of 1,000 wnids, never from which
folders exist.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import PIL
from PIL import Image

from models.preprocess import generated_images

_SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
_WNID = re.compile(r"n\d{8}")
IMAGENET_CLASSES = 1000
DECODER = f"Pillow {PIL.__version__}"
GENERATED_SIZE = 400
GENERATED_QUALITY = 92


@dataclass(frozen=True)
class ImageFile:
    """An encoded image and its class of the 1,000, or None where the folder does not say."""

    path: Path
    label: int | None


class UnreadableImage(ValueError):
    """A file that is no whole image; the message names it."""


class NoImages(ValueError):
    """A folder that cannot be used as a data set."""


@cache
def class_indices() -> dict[str, int]:
    """Wnid to class index, of the 1,000 classes of ILSVRC2012.

    Source: timm's list of ImageNet-1k synsets, in sorted order.
    """
    from timm.data import ImageNetInfo

    wnids: list[str] = ImageNetInfo().label_names()
    return {wnid: index for index, wnid in enumerate(wnids)}


def find_images(folder: Path) -> list[ImageFile]:
    """All images under `folder`, or under its `val`, in the order of their paths.

    Args:
        folder: `val/<wnid>/*.JPEG`, `<wnid>/*.JPEG`, or any folder of images.

    Raises:
        NoImages: the folder is absent or holds no image.
    """
    if not folder.is_dir():
        raise NoImages(f"no folder {folder}")
    root = folder / "val" if (folder / "val").is_dir() else folder
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise NoImages(f"no images ({', '.join(sorted(_SUFFIXES))}) under {root}")
    return [ImageFile(path, _label(path)) for path in paths]


def _label(path: Path) -> int | None:
    wnid = path.parent.name
    return class_indices().get(wnid) if _WNID.fullmatch(wnid) else None


def sample_images(files: Sequence[ImageFile], count: int | None, seed: int = 0) -> list[ImageFile]:
    """`count` of the files, or all for None, in an order that a seeded generator draws without replacement.

    The first in path order would be the first few classes, also where a pass over all of them is cut short.
    """
    return random.Random(seed).sample(list(files), len(files) if count is None else min(count, len(files)))


def decode(file: ImageFile) -> Image.Image:
    """The file read and decoded to RGB.

    Raises:
        UnreadableImage: it is truncated, or no image.
    """
    try:
        with Image.open(BytesIO(file.path.read_bytes())) as image:
            decoded: Image.Image = image.convert("RGB")
            return decoded
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken PNG files
        raise UnreadableImage(f"{file.path}: {error}") from error


def write_generated_jpegs(folder: Path, count: int) -> list[ImageFile]:
    """Generated images as JPEG files, where no data set is at hand: 400 x 400 pixels, quality 92, no labels."""
    files = []
    for index, pixels in enumerate(generated_images(count, GENERATED_SIZE)):
        path = folder / f"{index:05d}.JPEG"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=GENERATED_QUALITY)
        files.append(ImageFile(path, None))
    return files
