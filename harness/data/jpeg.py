"""Decodes plain JPEG files in colour with torchvision, which takes two thirds of Pillow's time for the same pixels.

Both have libjpeg-turbo. That the pixels are the same is not taken for granted: the first picture of each way of
sampling the colours is decoded by both, and where they differ Pillow goes on alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image


class PlainJpegs:
    """Decodes plain JPEG files, and remembers for which torchvision was found to give other pixels than Pillow."""

    def __init__(self) -> None:
        """Start without any comparison."""
        self._agrees: dict[tuple[Any, ...], bool] = {}

    def decode(self, image: Image.Image, data: bytes) -> Image.Image | None:
        """Return the RGB image as torchvision decodes it, or None if that is left to Pillow.

        What torchvision refuses is left to Pillow, so that Pillow's word on what is damaged stands.

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
            found = _by_torchvision(data)
        except RuntimeError:
            return None
        if sampling not in self._agrees:
            self._agrees[sampling] = np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))
        return found if self._agrees[sampling] else None


def _by_torchvision(data: bytes) -> Image.Image:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    # A tensor of bytes that cannot be written to would make torch warn.
    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
