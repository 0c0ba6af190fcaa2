"""Faster R-CNN on FBNetV3-A, the C4 model `faster_rcnn_fbnetv3a_dsmask_C4` of D2Go without its masks.

Ren et al., "Faster R-CNN" (2015); Dai et al., "FBNetV3" (2020). Stride 16, 15 anchors a cell, batch norms folded into
the convolutions. Nothing here may depend on weights, inputs, devices or pytest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.detectors.alive import scale_outputs, set_statistics
from models.detectors.two_stage import FEATURES, HEADS, TwoStage, corners, likeliest_apart

STRIDE, CLASSES, SIDE = 16, 80, 6
PROPOSALS = 100
_LOOKED_AT, _OVERLAP = 1000, 0.7
# The sides of the anchors of one cell, each in three ratios of height to width.
_SIDES, _RATIOS = (32, 64, 96, 128, 160), (0.5, 1.0, 2.0)
ANCHORS = len(_SIDES) * len(_RATIOS)
# The category of each class: D2Go counts the 80 classes in the order of COCO's ids, which have holes.
_HOLES = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
LABELS = torch.tensor([label for label in range(1, 91) if label not in _HOLES])


class ExpandedBlock(nn.Module):
    """A convolution that expands, a depthwise one and one that projects. The depthwise one has no rectifier."""

    def __init__(self, inputs: int, middle: int, outputs: int, kernel: int, stride: int = 1) -> None:
        """Take the channels, and the kernel and stride of the depthwise convolution."""
        super().__init__()
        self.expand = nn.Conv2d(inputs, middle, 1) if middle != inputs else None
        self.depthwise = nn.Conv2d(middle, middle, kernel, stride, kernel // 2, groups=middle)
        self.project = nn.Conv2d(middle, outputs, 1)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the block of [n, inputs, h, w]."""
        y: Tensor = x
        if self.expand is not None:
            y = F.relu(self.expand(x))
        y = self.project(self.depthwise(y))
        if self.residual:
            y = x + y
        return y


def _repeated(count: int, *sizes: int) -> list[ExpandedBlock]:
    return [ExpandedBlock(*sizes) for _ in range(count)]


class FbnetFasterRcnn(nn.Module):
    """The layers of the detector, named as in the trained weights, which have the anchors among them.

    It has no `forward`: `split` makes the two networks of it that are run.
    """

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.trunk = nn.Sequential(
            ExpandedBlock(16, 16, 16, 3),
            ExpandedBlock(16, 64, 32, 5, 2),
            ExpandedBlock(32, 64, 32, 5),
            ExpandedBlock(32, 128, 40, 5, 2),
            *_repeated(3, 40, 120, 40, 3),
            ExpandedBlock(40, 160, 72, 5, 2),
            *_repeated(3, 72, 216, 72, 3),
            ExpandedBlock(72, 288, 112, 5),
            *_repeated(3, 112, 448, 112, 5),
        )
        self.rpn = nn.Sequential(*_repeated(3, 112, 448, 112, 5))
        self.objectness = nn.Conv2d(112, ANCHORS, 1)
        self.anchor_codes = nn.Conv2d(112, ANCHORS * 4, 1)
        self.roi = nn.Sequential(
            ExpandedBlock(112, 448, 128, 3, 2), *_repeated(2, 128, 768, 128, 3), ExpandedBlock(128, 768, 160, 3)
        )
        self.scores = nn.Linear(160, CLASSES + 1)
        self.codes = nn.Linear(160, CLASSES * 4)
        self.register_buffer("anchor", cell_anchors())

    def split(self, size: tuple[int, int]) -> TwoStage:
        """Return the detector for an input of that height and width. It shares these layers."""
        return TwoStage(FbnetFeatures(self), FbnetHeads(self), FbnetBetween(size))


class FbnetFeatures(nn.Module):
    """Images [n, 3, h, w], as RGB less their means in 0..255, to objectness, box codes of the anchors, and the map."""

    output_names = FEATURES

    def __init__(self, layers: FbnetFasterRcnn) -> None:
        """Take the layers of the first stage."""
        super().__init__()
        self.stem, self.trunk, self.rpn = layers.stem, layers.trunk, layers.rpn
        self.objectness, self.anchor_codes = layers.objectness, layers.anchor_codes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return [n, anchors], [n, anchors, 4] and [n, 112, cells]. The weights were trained for BGR."""
        shared = self.trunk(F.relu(self.stem(images.flip([1]))))
        found = self.rpn(shared)
        objectness = self.objectness(found).permute(0, 2, 3, 1).flatten(1)
        codes = self.anchor_codes(found).permute(0, 2, 3, 1).reshape(images.shape[0], -1, 4)
        return objectness, codes, shared.flatten(2)

    @torch.jit.unused
    def enliven(self, detector: TwoStage, images: Tensor) -> None:
        """Make random weights alive in the detector of which this is a part."""
        parts = (self.stem, self.trunk, self.rpn)
        plain = [layer for part in parts for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        set_statistics(self, images, plain)
        scale_outputs(self, images, [("anchor_codes", [self.anchor_codes]), ("objectness", [self.objectness])])


class FbnetHeads(nn.Module):
    """Regions [m, 112, 6, 6] to class logits [m, 81], the background last, and box codes [m, 320]."""

    output_names = HEADS

    def __init__(self, layers: FbnetFasterRcnn) -> None:
        """Take the layers of the second stage."""
        super().__init__()
        self.roi, self.scores, self.codes = layers.roi, layers.scores, layers.codes

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and codes."""
        x = self.roi(regions).mean([2, 3])
        return self.scores(x), self.codes(x)

    @torch.jit.unused
    def enliven(self, detector: TwoStage, images: Tensor) -> None:
        """Make random weights alive in the detector of which this is a part."""
        set_statistics(detector, images, [layer for layer in self.roi.modules() if isinstance(layer, nn.Conv2d)])
        scale_outputs(detector, images, [("logits", [self.scores]), ("codes", [self.codes])])


@dataclass(frozen=True)
class FbnetBetween:
    """See `models.detectors.two_stage.Between`."""

    size: tuple[int, int]
    count: int = PROPOSALS

    @property
    def grid(self) -> tuple[int, int]:
        """The height and width of the map."""
        return math.ceil(self.size[0] / STRIDE), math.ceil(self.size[1] / STRIDE)

    def propose(self, objectness: Tensor, anchor_codes: Tensor, extents: Tensor) -> Tensor:
        """See `Between.propose`."""
        y, x = torch.meshgrid(*(torch.arange(cells) * STRIDE for cells in self.grid), indexing="ij")
        grid = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
        boxes = corners(anchor_codes, (grid + cell_anchors()).reshape(-1, 4), (1.0, 1.0))
        terms = _LOOKED_AT, _OVERLAP, self.count
        found = zip(boxes, objectness, extents, strict=True)
        return torch.stack([likeliest_apart(box, score, extent, terms) for box, score, extent in found])

    def regions(self, maps: Tensor, proposals: Tensor) -> Tensor:
        """See `Between.regions`."""
        from torchvision.ops import roi_align

        found: Tensor = roi_align(maps.unflatten(2, self.grid), list(proposals), SIDE, 1 / STRIDE, 0, aligned=True)
        return found


def cell_anchors() -> Tensor:
    """Return the anchors of one cell as corners around its top left, fp32 [15, 4]."""
    halves = [(side / math.sqrt(ratio) / 2, side * math.sqrt(ratio) / 2) for side in _SIDES for ratio in _RATIOS]
    return torch.tensor([(-width, -height, width, height) for width, height in halves])


def boxes_of(codes: Tensor, proposals: Tensor) -> Tensor:
    """Return the box of each class of each proposal, fp32 [count, 80, 4].

    Args:
        codes: the codes of the heads for one image, [count, 320].
        proposals: where the heads looked, [count, 4].
    """
    return corners(codes.unflatten(1, (CLASSES, 4)), proposals[:, None], (10.0, 5.0))
