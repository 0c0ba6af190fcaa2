"""Decodes plain JPEG files in colour with simplejpeg, which takes two thirds of Pillow's time for the same pixels.

Both have libjpeg-turbo. That the pixels are the same is not taken for granted: the first picture of each way of
sampling the colours is decoded by both, and where they differ Pillow goes on alone.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import PIL
from PIL import Image


def decoder_name() -> str:
    """Return what decodes, with versions; Pillow alone where simplejpeg is not installed."""
    try:
        return f"simplejpeg {version('simplejpeg')} for plain JPEG, Pillow {PIL.__version__}"
    except PackageNotFoundError:
        return f"Pillow {PIL.__version__}"


class PlainJpegs:
    """Decodes plain JPEG files, and remembers for which simplejpeg was found to give other pixels than Pillow."""

    def __init__(self) -> None:
        """Start without any comparison."""
        self._agrees: dict[tuple[Any, ...], bool] = {}

    def decode(self, image: Image.Image, data: bytes) -> Image.Image | None:
        """Return the RGB image as simplejpeg decodes it, or None if that is left to Pillow.

        What simplejpeg refuses is left to Pillow, so that Pillow's word on what is damaged stands.

        Args:
            image: the image as Pillow opened it, of which no more than the header is read so far.
            data: the whole file.
        """
        if image.format != "JPEG" or image.mode != "RGB":
            return None
        sampling = (*getattr(image, "layer", ()), bool(image.info.get("progressive")))
        if not self._agrees.get(sampling, True):
            return None
        try:
            found = _by_simplejpeg(data)
        except (ImportError, ValueError):
            return None
        if sampling not in self._agrees:
            self._agrees[sampling] = np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))
        return found if self._agrees[sampling] else None


def _by_simplejpeg(data: bytes) -> Image.Image:
    from simplejpeg import decode_jpeg

    return Image.fromarray(decode_jpeg(data, colorspace="RGB"))
