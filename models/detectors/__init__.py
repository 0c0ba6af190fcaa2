"""The detectors: their networks up to the raw heads, and how the raw outputs of an image become boxes and scores.

An engine runs a network up to its heads. What comes after, which is decoding, choosing candidates and suppression, is
here once for all engines, in fp32. Nothing here may depend on devices, engines or pytest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.detectors import ssd_mobilenet
from models.detectors.suppression import Suppression, suppressed

if TYPE_CHECKING:
    from models.tasks.outputs import Outputs

__all__ = ["Detector", "Suppression", "detector_of", "is_detector", "suppressed"]

_WIDTH = re.compile(r"(?P<arch>ssd_mobilenet_v1)(?:_(?P<width>\d{3}))?")
# For each image of a batch its boxes [m, 4] or [m, c, 4] in pixels of the network's input, and their scores [m, c].
Candidates = Callable[["Outputs"], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Detector:
    """An architecture of detectors.

    Attributes:
        build: returns the network up to its raw heads, with random weights.
        candidates: turns the raw outputs of a batch into boxes and scores.
        labels: the COCO category id of each class, int64 [c], without the background.
        suppression: how the boxes of an image become its objects.
    """

    build: Callable[[], nn.Module]
    candidates: Candidates
    labels: Tensor
    suppression: Suppression


def is_detector(arch: str) -> bool:
    """Return whether there is a detector of that name."""
    return _WIDTH.fullmatch(arch) is not None


@cache
def detector_of(arch: str) -> Detector:
    """Return the detector of this project with that name.

    Raises:
        KeyError: there is none.
    """
    if match := _WIDTH.fullmatch(arch):
        return _ssd_mobilenet(int(match["width"] or 100) / 100)
    raise KeyError(arch)


def _ssd_mobilenet(width: float) -> Detector:
    anchors = ssd_mobilenet.anchors()

    def candidates(outputs: Outputs) -> Iterator[tuple[Tensor, Tensor]]:
        for codes, logits in zip(outputs["codes"], outputs["logits"], strict=True):
            boxes = ssd_mobilenet.decode_boxes(torch.from_numpy(codes), anchors)
            yield boxes * ssd_mobilenet.SIZE, torch.from_numpy(logits).sigmoid()[:, 1:]

    return Detector(
        build=lambda: ssd_mobilenet.SsdMobileNetV1(width),
        candidates=candidates,
        labels=torch.arange(1, 91),
        suppression=Suppression(iou=0.6, threshold=1e-8, candidates=4000),
    )
