"""The images that int8 takes its ranges from. They come from a callable; its data set is not known here."""

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
# Another seed than that of any image that is evaluated, generated or drawn from a data set.
CALIBRATION_SEED = 1


@dataclass(frozen=True)
class Calibration:
    """The images that ranges are taken from.

    Attributes:
        source: the data set's name, or `generated`.
        images: how many there are.
        seed: of the draw, or of the generator.
        sha256: of the files' bytes, or of what the generator is told, and of the preprocessing.
        load: gives the images, fp32 [images, 3, h, w], normalised as the model's weights expect.
    """

    source: str
    images: int
    seed: int
    sha256: str
    load: Callable[[], torch.Tensor]

    def record(self) -> dict[str, Any]:
        """The calibration as it goes into keys and the JSON."""
        return {"source": self.source, "images": self.images, "seed": self.seed, "sha256": self.sha256}


def generated_calibration(spec: ModelSpec, count: int | None = None) -> Calibration:
    """Generated images, of another seed than those whose answers are checked. `count` None means 128."""
    count = count or CALIBRATION_IMAGES
    height, width = spec.input.size
    size = height if height == width else [height, width]
    return Calibration(
        GENERATED,
        count,
        CALIBRATION_SEED,
        fingerprint(spec, f"{GENERATED} {count} {size} {CALIBRATION_SEED}".encode()),
        lambda: task_of(spec).generated(spec, count, CALIBRATION_SEED),
    )


def fingerprint(spec: ModelSpec, *contents: bytes) -> str:
    """sha256 of what the images are made of and of the preprocessing that they go through."""
    digest = hashlib.sha256(str(preprocessing_identity(spec)["fingerprint"]).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
