"""R-FCN on ResNet-101, a module of this project: a detector of regions that has no layer of its own for a region.

Dai et al., "R-FCN: Object Detection via Region-based Fully Convolutional Networks" (2016): stride 16, dilated last
stage, 12 anchors a cell, 300 proposals, position-sensitive maps of 7 by 7 bins, and one box for all classes. The
backbone is torchvision's. Nothing here may depend on weights, inputs, devices or pytest.

All layers are in one network, which an engine runs. What is behind it, choosing proposals and letting the maps vote, is
arithmetic; neither exporter of ONNX and no other engine knows a position-sensitive pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.detectors.alive import scale_outputs, set_statistics
from models.detectors.two_stage import ANCHOR_CODES, OBJECTNESS, corners, likeliest_apart

STRIDE, BINS, CLASSES, PROPOSALS = 16, 7, 91, 300
SCORE_MAPS, BOX_MAPS = "score_maps", "box_maps"
_SIDES, _RATIOS = (64, 128, 256, 512), (0.5, 1.0, 2.0)
_ANCHORS = len(_SIDES) * len(_RATIOS)
_LOOKED_AT, _OVERLAP = 6000, 0.7


class Rfcn(nn.Module):
    """Images [n, 3, h, w] to objectness [n, anchors], codes [n, anchors, 4] and maps [n, bins² · outputs, h, w]."""

    output_names = (OBJECTNESS, ANCHOR_CODES, SCORE_MAPS, BOX_MAPS)

    def __init__(self) -> None:
        """Make the network."""
        from torchvision.models import resnet101

        super().__init__()
        body = resnet101(weights=None, replace_stride_with_dilation=[False, False, True])
        stem = (body.conv1, body.bn1, body.relu, body.maxpool)
        self.shared = nn.Sequential(*stem, body.layer1, body.layer2, body.layer3)
        self.last = body.layer4
        self.reduce = nn.Conv2d(2048, 1024, 1)
        self.rpn = nn.Conv2d(1024, 1024, 3, padding=1)
        self.objectness = nn.Conv2d(1024, _ANCHORS, 1)
        self.anchor_codes = nn.Conv2d(1024, _ANCHORS * 4, 1)
        self.score_maps = nn.Conv2d(1024, BINS * BINS * CLASSES, 1)
        self.box_maps = nn.Conv2d(1024, BINS * BINS * 4, 1)
        for layer in (self.reduce, self.rpn, self.objectness, self.anchor_codes, self.score_maps, self.box_maps):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the raw heads."""
        shared = self.shared(images)
        proposing = F.relu(self.rpn(shared))
        objectness = self.objectness(proposing).permute(0, 2, 3, 1).flatten(1)
        codes = self.anchor_codes(proposing).permute(0, 2, 3, 1).reshape(images.shape[0], -1, 4)
        voting = F.relu(self.reduce(self.last(shared)))
        return objectness, codes, self.score_maps(voting), self.box_maps(voting)

    @torch.jit.unused
    def enliven(self, images: Tensor) -> None:
        """Make random weights alive. See `models.detectors.alive`."""
        set_statistics(self, images, [self.rpn, self.reduce])
        layers = (self.objectness, self.anchor_codes, self.score_maps, self.box_maps)
        scale_outputs(self, images, [(name, [layer]) for name, layer in zip(self.output_names, layers, strict=True)])
        self.score_maps.weight.mul_(BINS)  # the mean over bins that differ has so much less of a deviation


def propose(objectness: Tensor, codes: Tensor, grid: tuple[int, int], extent: Tensor) -> Tensor:
    """Return the proposals of one image, fp32 [300, 4]; boxes without an area fill up the number.

    Args:
        objectness: the logit of each anchor, [anchors].
        codes: the box code of each anchor, [anchors, 4].
        grid: the height and width of the maps.
        extent: the height and width that the image takes of the input, [2].
    """
    y, x = torch.meshgrid(*(torch.arange(cells) * STRIDE for cells in grid), indexing="ij")
    cells = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
    halves = [(side / ratio**0.5 / 2, side * ratio**0.5 / 2) for side in _SIDES for ratio in _RATIOS]
    anchors = torch.tensor([(-width, -height, width, height) for width, height in halves])
    boxes = corners(codes, (cells + anchors).reshape(-1, 4), (1.0, 1.0))
    return likeliest_apart(boxes, objectness, extent, (_LOOKED_AT, _OVERLAP, PROPOSALS))


def vote(score_maps: Tensor, box_maps: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor]:
    """Return the boxes [300, 4] and the scores [300, 90] of the proposals of one image, without the background.

    Args:
        score_maps: the maps of the classes, [bins² · classes, h, w].
        box_maps: the maps of the box codes, [bins² · 4, h, w].
        proposals: where to look, [300, 4]; boxes without an area get no score.
    """
    from torchvision.ops import ps_roi_pool

    logits, codes = (
        ps_roi_pool(maps[None], [proposals], BINS, 1 / STRIDE).mean((2, 3)) for maps in (score_maps, box_maps)
    )
    has_area = (proposals[:, 2:] > proposals[:, :2]).all(dim=1)
    scores = logits.softmax(-1)[:, 1:] * has_area[:, None]
    return corners(codes, proposals, (10.0, 5.0)), scores
