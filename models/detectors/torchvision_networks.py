"""The detectors of torchvision, taken apart: their networks up to the raw heads, and the arithmetic behind them.

The layers, the anchors and the codes of boxes are torchvision's own. Nothing here may depend on devices or pytest.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from models.catalog import InputSpec
from models.detectors.alive import scale_outputs, set_statistics
from models.detectors.two_stage import FEATURES, HEADS, TwoStage, filled, levels

# The classes of torchvision's detectors that are taken apart here, and why others are not.
_SINGLE, _TWO = ("SSD", "RetinaNet"), ("FasterRCNN",)


class UnknownDetector(ValueError):
    """The detector is none that is taken apart; the message says which are."""


def create(arch: str) -> Any:
    """Return torchvision's own network of that name, with random weights and nothing fetched."""
    return import_module("torchvision.models").get_model(arch, weights=None, weights_backbone=None, num_classes=91)


def input_of(network: Any) -> InputSpec:
    """Return the input of a network: what torchvision's transform makes of an image, in a fixed size.

    Where the aspect is kept, the input is a square that holds an image whose sides are in a ratio of up to 3 to 2 at
    the short side that the weights were trained for; longer ones are made smaller.

    Raises:
        UnknownDetector: the network is of a class that is not taken apart.
    """
    _require_known(network)
    made = network.transform
    mean, std = ((float(red), float(green), float(blue)) for red, green, blue in (made.image_mean, made.image_std))
    if made.fixed_size is not None:
        width, height = made.fixed_size
        return InputSpec((height, width), 1.0, "bilinear", mean, std, "squash")
    short = int(made.min_size[-1])
    side = math.ceil(short * 1.5 / made.size_divisible) * made.size_divisible
    return InputSpec((side, side), 1.0, "bilinear", mean, std, "pad", short)


def _require_known(network: Any) -> None:
    kind = type(network).__name__
    if kind not in (*_SINGLE, *_TWO):
        raise UnknownDetector(f"torchvision's {kind} is not taken apart here; {', '.join((*_SINGLE, *_TWO))} are")


def split(network: Any, size: tuple[int, int]) -> nn.Module:
    """Return the network up to its raw heads, which shares the layers of torchvision's network.

    Raises:
        UnknownDetector: it is of a class that is not taken apart.
    """
    _require_known(network)
    if type(network).__name__ in _SINGLE:
        return SingleStage(network)
    between = PyramidBetween(network, size)
    return TwoStage(PyramidFeatures(network, len(between.pooled)), RegionHeads(network), between)


class SingleStage(nn.Module):
    """Images [n, 3, h, w] to box codes [n, anchors, 4] and class logits [n, anchors, classes]."""

    output_names = ("codes", "logits")

    def __init__(self, network: Any) -> None:
        """Take the layers of torchvision's network."""
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the raw heads."""
        found = self.head(list(self.backbone(images).values()))
        return found["bbox_regression"], found["cls_logits"]

    @torch.jit.unused
    def enliven(self, images: Tensor) -> None:
        """Make random weights alive. See `models.detectors.alive`."""
        set_statistics(self, images)
        scale_outputs(self, images, [("logits", _last_layers(self.head.classification_head))])


def _last_layers(head: nn.Module) -> list[nn.Module]:
    """Return the layers that give the logits: one shared by all levels, or the last of each level."""
    shared = getattr(head, "cls_logits", None)
    if shared is not None:
        return [shared]
    levels_of = head.module_list
    return [[layer for layer in level.modules() if isinstance(layer, nn.Conv2d)][-1] for level in levels_of]  # type: ignore[union-attr]


class PyramidFeatures(nn.Module):
    """Images [n, 3, h, w] to objectness [n, anchors], box codes [n, anchors, 4] and maps [n, channels, cells]."""

    output_names = FEATURES

    def __init__(self, network: Any, pooled: int) -> None:
        """Take the layers of torchvision's first stage, and the number of maps from which regions are cut."""
        super().__init__()
        self.backbone, self.head = network.backbone, network.rpn.head
        self.pooled = pooled

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the raw heads of the first stage, and the maps from which regions are cut."""
        found = list(self.backbone(images).values())
        scores, codes = self.head(found)
        count = images.shape[0]
        objectness: list[Tensor] = []
        boxes: list[Tensor] = []
        maps: list[Tensor] = []
        for index in range(len(found)):
            objectness.append(scores[index].permute(0, 2, 3, 1).reshape(count, -1))
            code = codes[index]
            code = code.reshape(count, -1, 4, code.shape[2], code.shape[3])
            boxes.append(code.permute(0, 3, 4, 1, 2).reshape(count, -1, 4))
            if index < self.pooled:
                maps.append(found[index].flatten(2))
        return torch.cat(objectness, 1), torch.cat(boxes, 1), torch.cat(maps, 2)

    @torch.jit.unused
    def enliven(self, detector: TwoStage, images: Tensor) -> None:
        """Make random weights alive in the detector of which this is a part."""
        set_statistics(self, images)
        scale_outputs(self, images, [("objectness", [self.head.cls_logits])])


class RegionHeads(nn.Module):
    """Regions [m, channels, 7, 7] to class logits [m, 91] and box codes [m, 364]."""

    output_names = HEADS

    def __init__(self, network: Any) -> None:
        """Take the layers of torchvision's second stage."""
        super().__init__()
        self.body, self.predictor = network.roi_heads.box_head, network.roi_heads.box_predictor

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and codes."""
        logits, codes = self.predictor(self.body(regions))
        return logits, codes

    @torch.jit.unused
    def enliven(self, detector: TwoStage, images: Tensor) -> None:
        """Make random weights alive in the detector of which this is a part."""
        heads = [("logits", [self.predictor.cls_score]), ("codes", [self.predictor.bbox_pred])]
        scale_outputs(detector, images, heads)


class PyramidBetween:
    """See `models.detectors.two_stage.Between`. It is torchvision's own, with a fixed number of proposals."""

    def __init__(self, network: Any, size: tuple[int, int]) -> None:
        """Take what chooses proposals and cuts regions out of torchvision's network, for an input of that size."""
        self._rpn, self._pool = network.rpn, network.roi_heads.box_roi_pool
        self._size = size
        made = grids(network.backbone, size)
        self._grids = list(made.values())
        self.pooled = [name for name in made if name in network.roi_heads.box_roi_pool.featmap_names]
        self.count = int(network.rpn.post_nms_top_n())

    def propose(self, objectness: Tensor, anchor_codes: Tensor, extents: Tensor) -> Tensor:
        """See `Between.propose`."""
        anchors = anchors_of(self._rpn.anchor_generator, self._size, self._grids)
        boxes = self._rpn.box_coder.decode_single(anchor_codes.flatten(0, 1), anchors.repeat(len(anchor_codes), 1))
        cells = self._rpn.anchor_generator.num_anchors_per_location()
        counts = [height * width * each for (height, width), each in zip(self._grids, cells, strict=True)]
        shapes = [(int(height), int(width)) for height, width in extents]
        found, _ = self._rpn.filter_proposals(boxes.view(len(shapes), -1, 4), objectness, shapes, counts)
        return torch.stack([filled(one, self.count) for one in found])

    def regions(self, maps: Tensor, proposals: Tensor) -> Tensor:
        """See `Between.regions`."""
        found = OrderedDict(zip(self.pooled, levels(maps, self._grids[: len(self.pooled)]), strict=True))
        cut: Tensor = self._pool(found, list(proposals), [self._size] * len(proposals))
        return cut


def grids(backbone: nn.Module, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return the height and width of each map, by its name, that a backbone makes of an input of that size."""
    import copy

    with torch.no_grad():
        found = copy.deepcopy(backbone).to("meta").eval()(torch.empty(1, 3, *size, device="meta"))
    return {name: (int(one.shape[2]), int(one.shape[3])) for name, one in found.items()}


def anchors_of(generator: Any, size: tuple[int, int], grids: list[tuple[int, int]]) -> Tensor:
    """Return the anchors of an input of that size as corners in pixels, fp32 [anchors, 4]."""
    from torchvision.models.detection.image_list import ImageList

    images = ImageList(torch.empty(1, 3, *size), [size])
    found: Tensor = generator(images, [torch.empty(1, 1, *grid) for grid in grids])[0]
    return found


@dataclass(frozen=True)
class Arithmetic:
    """What is behind the raw heads of a torchvision detector.

    Attributes:
        boxes: turns the codes of one image, and the anchors or proposals that they are relative to, into corners.
        probabilities: turns logits into probabilities, with the background first or without one.
        anchors: the anchors as corners, fp32 [anchors, 4]; None for proposals.
        iou: see `Suppression`.
        threshold: see `Suppression`.
    """

    boxes: Callable[[Tensor, Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    anchors: Tensor | None
    iou: float
    threshold: float


@cache
def arithmetic(arch: str, size: tuple[int, int]) -> Arithmetic:
    """Return what is behind the raw heads of that detector."""
    network = create(arch)
    if type(network).__name__ in _TWO:
        heads = network.roi_heads
        return Arithmetic(heads.box_coder.decode_single, _softmax, None, heads.nms_thresh, heads.score_thresh)
    anchors = anchors_of(network.anchor_generator, size, list(grids(network.backbone, size).values()))
    probabilities = torch.sigmoid if type(network).__name__ == "RetinaNet" else _softmax
    decode = network.box_coder.decode_single
    return Arithmetic(decode, probabilities, anchors, network.nms_thresh, network.score_thresh)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)
