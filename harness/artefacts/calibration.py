"""The images from which int8 quantisation takes its activation ranges, whichever data set they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.cases import GENERATED
from models.catalog import ModelSpec
from models.preprocess import preprocessing_identity
from models.tasks import task_of

CALIBRATION_IMAGES = 128
# Of images larger than this many pixels there are fewer, so that all of them together are no more than this many.
LARGE_PIXELS, MOST_PIXELS, LEAST_IMAGES = 400 * 400, 12_000_000, 8
# One batch of a calibration has at most so many images and pixels: enough to keep the cores busy, and few enough for
# memory. Onnxruntime holds all activations until the end of a batch: of four images of 608 x 912 pixels in a ResNet-101
# 18 GB. One image is always allowed.
BATCH, BATCH_PIXELS = 16, 16 * 224 * 224
# Differs from the seed of every evaluated image, whether that is generated or drawn from a data set.
CALIBRATION_SEED = 1


@dataclass(frozen=True)
class Calibration:
    """The images from which quantisation takes its ranges.

    Attributes:
        source: the data set's name, or `generated`.
        images: the number of images.
        seed: the seed of the random draw from the data set, or of the image generator.
        sha256: the hash of the preprocessing together with the image files, or with the generator's parameters.
        load: returns the images, fp32 [images, 3, h, w], normalised as the model's weights expect.
    """

    source: str
    images: int
    seed: int
    sha256: str
    load: Callable[[], torch.Tensor]

    def record(self) -> dict[str, Any]:
        """Return the calibration as cache keys and the JSON record hold it."""
        return {"source": self.source, "images": self.images, "seed": self.seed, "sha256": self.sha256}


def generated_calibration(spec: ModelSpec, count: int | None = None) -> Calibration:
    """Return a calibration on generated images, whose seed differs from that of the images for checking answers.

    Args:
        spec: the catalogue row of the model.
        count: the number of images, or None for 128, and fewer of large images.
    """
    height, width = spec.input.size
    count = count or _default_count(height * width)
    size = height if height == width else [height, width]
    return Calibration(
        GENERATED,
        count,
        CALIBRATION_SEED,
        fingerprint(spec, f"{GENERATED} {count} {size} {CALIBRATION_SEED}".encode()),
        lambda: task_of(spec).generated(spec, count, CALIBRATION_SEED),
    )


def _default_count(pixels: int) -> int:
    return CALIBRATION_IMAGES if pixels <= LARGE_PIXELS else max(LEAST_IMAGES, MOST_PIXELS // pixels)


def calibration_batches(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the calibration images [n, c, h, w] in batches of the size in which a quantiser is to run them."""
    pixels = images.shape[2] * images.shape[3]
    batches: tuple[torch.Tensor, ...] = images.split(max(1, min(BATCH, BATCH_PIXELS // pixels)))
    return batches


def fingerprint(spec: ModelSpec, *contents: bytes) -> str:
    """Return the sha256 of the model's preprocessing and of the contents from which the images are made."""
    digest = hashlib.sha256(str(preprocessing_identity(spec)["fingerprint"]).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
