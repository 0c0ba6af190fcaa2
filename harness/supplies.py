"""What an engine may need beside the module: artefacts of earlier runs, and images to calibrate int8 on.

Owns the choice of the calibration images: always others than those that are evaluated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.artefacts import ArtefactCache, default_folder
from harness.imagenet import ImageFile, NoImages, decode, sample_images
from models.catalog import ModelSpec
from models.preprocess import build_transform, generated_images, normalise, preprocessing_identity

GENERATED = "generated"
CALIBRATION_IMAGES = 128
# Ranges of fewer images than these say more of the images than of the model.
LEAST_CALIBRATION_IMAGES = 8
# Another seed than that of any image that is evaluated, generated or drawn from a data set.
CALIBRATION_SEED = 1


@dataclass(frozen=True)
class Calibration:
    """The images that ranges are taken from.

    Attributes:
        source: the data set's folder, or `generated`.
        images: how many.
        seed: of the draw, or of the generator.
        sha256: of the files' bytes, or of what the generator is told, and of the preprocessing.
        load: gives them, fp32 [images, 3, h, w], normalised as the model's weights expect.
    """

    source: str
    images: int
    seed: int
    sha256: str
    load: Callable[[], torch.Tensor]

    def record(self) -> dict[str, Any]:
        """The calibration as it goes into keys and the JSON."""
        return {"source": self.source, "images": self.images, "seed": self.seed, "sha256": self.sha256}


@dataclass(frozen=True)
class Supplies:
    """What `Engine.build` is handed beside the module.

    Attributes:
        artefacts: the cache.
        calibration: the calibration, when first asked for: only int8 needs it.
        report: told what is being done, for a progress line.
    """

    artefacts: ArtefactCache
    calibration: Callable[[], Calibration]
    report: Callable[[str], None] = lambda phase: None


def default_supplies(spec: ModelSpec) -> Supplies:
    """The user's cache, and generated images."""
    return Supplies(ArtefactCache(default_folder()), lambda: generated_calibration(spec))


def generated_calibration(spec: ModelSpec, count: int | None = None) -> Calibration:
    """Generated images, of another seed than those whose answers are checked."""
    count = count or CALIBRATION_IMAGES
    size = spec.input.size
    return Calibration(
        GENERATED,
        count,
        CALIBRATION_SEED,
        _fingerprint(spec, f"{GENERATED} {count} {size} {CALIBRATION_SEED}".encode()),
        lambda: normalise(generated_images(count, size, CALIBRATION_SEED), spec.input),
    )


def data_calibration(spec: ModelSpec, folder: str, files: Sequence[ImageFile]) -> Calibration:
    """Images of a data set, as `split_calibration` chose them."""
    transform = build_transform(spec)
    return Calibration(
        folder,
        len(files),
        CALIBRATION_SEED,
        _fingerprint(spec, *(file.read() for file in files)),
        lambda: torch.stack([transform(decode(file)) for file in files]),
    )


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


def _fingerprint(spec: ModelSpec, *contents: bytes) -> str:
    digest = hashlib.sha256(str(preprocessing_identity(spec)["fingerprint"]).encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
