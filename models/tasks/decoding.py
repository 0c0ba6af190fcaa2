"""From the raw heads of a detector to the objects of each image, and from one size of the image to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.catalog import ModelSpec
from models.preprocess import placed_size
from models.tasks.detections import Detections
from models.tasks.outputs import Outputs

if TYPE_CHECKING:
    from models.detectors import Detector, Suppression


def detections(
    spec: ModelSpec,
    outputs: Outputs,
    sizes: Sequence[tuple[int, int]] | None = None,
    suppression: Suppression | None = None,
) -> list[Detections]:
    """Return the objects of each image of a batch, made of the raw outputs of the network's heads.

    Args:
        spec: the catalogue row of the model.
        outputs: the raw outputs, fp32 on the host.
        sizes: the height and width in pixels of each original image, to which the boxes are scaled; None for the
            input's size.
        suppression: how boxes become objects; None for what the model was published with.
    """
    from models.detectors import suppressed

    detector = detector_for(spec)
    placed = filling(spec, len(outputs))
    if sizes is not None:
        placed = torch.tensor([placed_size(spec.input, *size) for size in sizes])
    found = []
    with torch.inference_mode():
        for index, (boxes, scores) in enumerate(detector.candidates(outputs, placed)):
            height, width = spec.input.size if sizes is None else sizes[index]
            limits = placed[index].flip(0).repeat(2).to(torch.float32)
            within = boxes.clamp(min=0).minimum(limits)
            box, score, label = suppressed(within, scores, detector.labels, suppression or detector.suppression)
            scale = torch.tensor([width, height, width, height], dtype=torch.float32)
            found.append(Detections((box / limits * scale).numpy(), score.numpy(), label.numpy()))
    return found


def in_pixels(
    spec: ModelSpec, found: Sequence[Detections], sizes: Sequence[tuple[int, int]] | None
) -> list[Detections]:
    """Return objects in pixels of the original images, given those in pixels of the input. See `detections`."""
    if sizes is None:
        return list(found)
    scaled = []
    for one, (height, width) in zip(found, sizes, strict=True):
        tall, wide = placed_size(spec.input, height, width)
        limits = np.array([wide, tall, wide, tall], np.float32)
        boxes = one.boxes.clip(0, limits) / limits * np.array([width, height, width, height], np.float32)
        scaled.append(Detections(boxes.astype(np.float32), one.scores, one.labels))
    return scaled


def detector_for(spec: ModelSpec) -> Detector:
    """Return what is behind the raw heads of a model."""
    from models.detectors import detector_of

    return detector_of(spec.arch, spec.input.size)


def filling(spec: ModelSpec, images: int) -> Tensor:
    """Return the extents of images that fill the input, int64 [n, 2]."""
    return torch.tensor([spec.input.size] * images)


def likeliest(found: Sequence[Detections], keep: int) -> list[Detections]:
    """Return the likeliest objects of each image, at most so many."""
    return [Detections(one.boxes[:keep], one.scores[:keep], one.labels[:keep]) for one in found]
