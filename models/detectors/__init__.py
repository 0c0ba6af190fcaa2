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

from models.detectors import faster_rcnn_fbnet, rfcn, ssd_mobilenet, torchvision_networks
from models.detectors.suppression import Suppression, suppressed
from models.detectors.two_stage import ANCHOR_CODES, CODES, LOGITS, OBJECTNESS, PROPOSALS, TwoStage

if TYPE_CHECKING:
    from models.tasks.outputs import Outputs

__all__ = ["Detector", "Suppression", "TwoStage", "detector_of", "network_of", "suppressed"]

_WIDTH = re.compile(r"ssd_mobilenet_v1(?:_(?P<width>\d{3}))?")
_CATEGORIES = torch.arange(1, 91)
Size = tuple[int, int]
# For each image of a batch its boxes [m, 4] or [m, c, 4] in pixels of the network's input, and their scores [m, c]. The
# second argument is the height and width that each image takes of the input, int64 [n, 2].
Candidates = Callable[["Outputs", Tensor], Iterator[tuple[Tensor, Tensor]]]
# The boxes without an area among the proposals [n, count, 4] of a batch only fill up their number.
Proposing = Callable[["Outputs", Tensor], Tensor]


@dataclass(frozen=True)
class Detector:
    """What is behind the raw heads of an architecture, for one size of input.

    Attributes:
        candidates: turns the raw outputs of a batch into boxes and scores.
        labels: the COCO category id of each class, int64 [c], without the background.
        suppression: how the boxes of an image become its objects.
        proposals: returns where the second stage looks; None for a detector of one stage.
    """

    candidates: Candidates
    labels: Tensor
    suppression: Suppression
    proposals: Proposing | None = None


def network_of(arch: str) -> nn.Module | None:
    """Return the layers of this project's detector of that name, with random weights; None if there is none."""
    if match := _WIDTH.fullmatch(arch):
        return ssd_mobilenet.SsdMobileNetV1(int(match["width"] or 100) / 100)
    if arch == "fasterrcnn_fbnetv3a":
        return faster_rcnn_fbnet.FbnetFasterRcnn()
    return rfcn.Rfcn() if arch == "rfcn_resnet101" else None


@cache
def detector_of(arch: str, size: Size) -> Detector:
    """Return what is behind the raw heads of a detector, whose input has that height and width.

    Raises:
        ValueError: there is none of that name.
    """
    if _WIDTH.fullmatch(arch):
        return _ssd_mobilenet()
    if arch == "fasterrcnn_fbnetv3a":
        return _fbnet()
    return _rfcn() if arch == "rfcn_resnet101" else _torchvision(arch, size)


def _tensors(outputs: Outputs, *names: str) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors of each image."""
    return zip(*(torch.from_numpy(outputs[name]) for name in names), strict=True)


def _given(outputs: Outputs, extents: Tensor) -> Tensor:
    return torch.from_numpy(outputs[PROPOSALS])


def _ssd_mobilenet() -> Detector:
    anchors = ssd_mobilenet.anchors()

    def candidates(outputs: Outputs, extents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for codes, logits in _tensors(outputs, CODES, LOGITS):
            yield ssd_mobilenet.decode_boxes(codes, anchors) * ssd_mobilenet.SIZE, logits.sigmoid()[:, 1:]

    return Detector(candidates, _CATEGORIES, Suppression(iou=0.6, threshold=1e-8, candidates=4000))


def _fbnet() -> Detector:
    def candidates(outputs: Outputs, extents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for proposals, codes, logits in _tensors(outputs, PROPOSALS, CODES, LOGITS):
            scores = logits.softmax(-1)[:, :-1] * _has_area(proposals)
            yield faster_rcnn_fbnet.boxes_of(codes, proposals), scores

    return Detector(candidates, faster_rcnn_fbnet.LABELS, Suppression(), _given)


def _rfcn() -> Detector:
    def proposals(outputs: Outputs, extents: Tensor) -> Tensor:
        tall, wide = outputs[rfcn.SCORE_MAPS].shape[2:]
        found = zip(_tensors(outputs, OBJECTNESS, ANCHOR_CODES), extents, strict=True)
        return torch.stack([rfcn.propose(one, codes, (tall, wide), extent) for (one, codes), extent in found])

    def candidates(outputs: Outputs, extents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        looked_at = proposals(outputs, extents)
        maps = _tensors(outputs, rfcn.SCORE_MAPS, rfcn.BOX_MAPS)
        for (score_maps, box_maps), boxes in zip(maps, looked_at, strict=True):
            yield rfcn.vote(score_maps, box_maps, boxes)

    return Detector(candidates, _CATEGORIES, Suppression(), proposals)


def _torchvision(arch: str, size: Size) -> Detector:
    found = torchvision_networks.arithmetic(arch, size)

    def candidates(outputs: Outputs, extents: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if found.anchors is not None:
            for codes, logits in _tensors(outputs, CODES, LOGITS):
                yield found.boxes(codes, found.anchors), found.probabilities(logits)[:, 1:]
            return
        for proposals, codes, logits in _tensors(outputs, PROPOSALS, CODES, LOGITS):
            scores = found.probabilities(logits)[:, 1:] * _has_area(proposals)
            yield found.boxes(codes, proposals).unflatten(1, (-1, 4))[:, 1:], scores

    terms = Suppression(found.iou, found.threshold, candidates=4000)
    return Detector(candidates, _CATEGORIES, terms, None if found.anchors is not None else _given)


def _has_area(proposals: Tensor) -> Tensor:
    """Return for each proposal whether it has an area, [count, 1]; those without fill up the number."""
    return (proposals[:, 2:] > proposals[:, :2]).all(dim=1, keepdim=True)
