"""Decodes an encoded image to the RGB pixels that the libraries' own readers give, or names the file that has none.

Pillow's `convert("RGB")` is what torchvision and timm use, and the published accuracies were measured with: CMYK is
converted without a profile, the alpha channel is dropped, and the orientation of EXIF is not applied. It is not used
for greys of more than eight bits, which it would clip to white.

A plain JPEG file in colour is decoded by simplejpeg, which is faster (see `harness.data.jpeg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image

from harness.data.images import ImageFile, UnreadableImage
from harness.data.jpeg import PlainJpegs, decoder_name

DECODER = decoder_name()
_JPEGS = PlainJpegs()
_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS_PER_SAMPLE = 0, 262, 258  # of TIFF
# The formats whose greys of more than eight bits Pillow gives in the range of 16 bits, whichever mode it uses.
_GREYS_OF_16_BITS = ("PNG", "PPM", "JPEG2000")


def decode(file: ImageFile) -> Image.Image:
    """Read the file and decode it to RGB.

    Raises:
        UnreadableImage: if the file cannot be read or decoded, or if its pixels have no certain meaning as RGB.
    """
    try:
        data = file.read()
        with Image.open(BytesIO(data)) as image:  # reads the header alone
            return _JPEGS.decode(image, data) or _to_rgb(image)
    # Decoders and openers raise whatever a damaged file leads them to: OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, Image.DecompressionBombError, … Which file it was must not be lost.
    except Exception as error:
        text = str(error) or type(error).__name__
        raise UnreadableImage(f"{file}: {text}") from error


def split_readable(
    files: Sequence[ImageFile], pool: ThreadPoolExecutor
) -> tuple[list[ImageFile], list[UnreadableImage]]:
    """Return the files that can be decoded, in their order, and the errors of the others. Each file is decoded once."""

    def attempt(file: ImageFile) -> UnreadableImage | None:
        try:
            decode(file)
        except UnreadableImage as error:
            return error
        return None

    errors = list(pool.map(attempt, files))
    readable = [file for file, error in zip(files, errors, strict=True) if error is None]
    return readable, [error for error in errors if error is not None]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours as directly, without Pillow's warning
    decoded: Image.Image = image.convert("RGB")
    return decoded


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of more than eight bits in eight: 65,535, which is white, becomes 255."""
    tags = getattr(image, "tag_v2", {})
    is_known = image.format in _GREYS_OF_16_BITS or (image.mode.startswith("I;16") and _bits(tags) == 16)
    if image.mode == "F" or not is_known:
        raise ValueError(f"pixels of the mode {image.mode} ({image.format}) do not say which value is white")
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"pixels from {pixels.min()} to {pixels.max()} are no greys of 16 bits")
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 65535 - pixels
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))


def _bits(tags: dict[int, tuple[int, ...]]) -> int:
    return tags.get(_BITS_PER_SAMPLE, (16,))[0]
