"""Detectors of two stages: a network of features, regions of its maps where it proposes objects, a network of heads.

Only the two networks run on an engine. Choosing proposals and cutting regions out of the maps is between them, once for
every engine, in fp32, with a fixed number of proposals, so that both networks have fixed shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OBJECTNESS, ANCHOR_CODES, MAPS = "objectness", "anchor_codes", "maps"
PROPOSALS, LOGITS, CODES = "proposals", "logits", "codes"
FEATURES = (OBJECTNESS, ANCHOR_CODES, MAPS)
HEADS = (LOGITS, CODES)


class Between(Protocol):
    """What is between the two networks of one detector, for a fixed size of input."""

    @property
    def count(self) -> int:
        """The number of proposals of an image."""

    def propose(self, objectness: Tensor, anchor_codes: Tensor, extents: Tensor) -> Tensor:
        """Return the proposals of each image, fp32 [n, count, 4], the likeliest first, in pixels of the input.

        Where there are fewer, boxes without an area fill up the number.

        Args:
            objectness: the logit of each anchor, [n, anchors].
            anchor_codes: the box code of each anchor, [n, anchors, 4].
            extents: the height and width that each image takes of the input, int64 [n, 2].
        """

    def regions(self, maps: Tensor, proposals: Tensor) -> Tensor:
        """Return the region of each proposal, fp32 [n * count, channels, side, side].

        Args:
            maps: the maps of each image, [n, channels, cells], the cells of all levels one behind the other.
            proposals: the boxes, [n, count, 4].
        """


class TwoStage(nn.Module):
    """A detector of two stages as one network, as the reference runs it."""

    output_names = (OBJECTNESS, ANCHOR_CODES, PROPOSALS, LOGITS, CODES)

    def __init__(self, features: nn.Module, heads: nn.Module, between: Between) -> None:
        """Take the network of features, the network of heads, and what is between them."""
        super().__init__()
        self.features = features
        self.heads = heads
        self.between = between

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what the features propose, where the heads looked and what they answered, for [n, 3, h, w]."""
        objectness, anchor_codes, maps = self.features(images)
        proposals = self.between.propose(objectness, anchor_codes, extents(images))
        logits, codes = self.heads(self.between.regions(maps, proposals))
        return objectness, anchor_codes, proposals, by_image(logits, len(images)), by_image(codes, len(images))

    def enliven(self, images: Tensor) -> None:
        """Make random weights alive. See `models.detectors.alive`."""
        for part in (self.features, self.heads):
            part.enliven(self, images)  # type: ignore[operator]


def by_image(found: Tensor, images: int) -> Tensor:
    """Return what was found of all regions, [n * count, …], as [n, count, …]."""
    return found.reshape(images, -1, *found.shape[1:])


def extents(images: Tensor) -> Tensor:
    """Return the height and width that each image takes at the top left of the input, int64 [n, 2].

    What is right and below of an image is zero in every channel, and a pixel of an image is not: the means of the
    normalisation are no whole numbers of 0 to 255.
    """
    is_there = (images != 0).any(dim=1)
    ends = [is_there.any(dim=2), is_there.any(dim=1)]
    numbers = [torch.arange(1, end.shape[1] + 1, device=images.device) for end in ends]
    return torch.stack([(end * number).amax(dim=1) for end, number in zip(ends, numbers, strict=True)], dim=1)


def filled(boxes: Tensor, count: int) -> Tensor:
    """Return exactly `count` boxes [count, 4]: the first of those given, then boxes without an area."""
    return F.pad(boxes[:count], (0, 0, 0, max(0, count - len(boxes))))


def levels(maps: Tensor, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return the map of each level, [n, channels, h, w], of maps that lie one behind the other."""
    parts = maps.split([height * width for height, width in grids], dim=2)
    return [part.unflatten(2, grid) for part, grid in zip(parts, grids, strict=True)]


def likeliest_apart(boxes: Tensor, scores: Tensor, extent: Tensor, terms: tuple[int, float, int]) -> Tensor:
    """Return the proposals of one image: of the likeliest boxes those that do not overlap a likelier one, [count, 4].

    Args:
        boxes: the corners of each anchor's box, [anchors, 4].
        scores: the objectness of each anchor, [anchors].
        extent: the height and width of the image, int64 [2].
        terms: how many boxes are looked at, by how much of their union two may overlap, and how many are kept.
    """
    from torchvision.ops import clip_boxes_to_image, nms

    looked_at, overlap, count = terms
    found, index = scores.topk(min(looked_at, len(scores)))
    clipped = clip_boxes_to_image(boxes[index], (int(extent[0]), int(extent[1])))
    has_area = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
    clipped, found = clipped[has_area], found[has_area]
    return filled(clipped[nms(clipped, found, overlap)], count)


def corners(codes: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return the corners of coded boxes.

    Args:
        codes: the codes dx, dy, dw, dh, [..., 4].
        boxes: the boxes that they are relative to, as corners, [..., 4].
        weights: what the codes of the centre and of the size are divided by.

    Source: Girshick, "Fast R-CNN"; the greatest growth, of 1000 / 16, is Detectron's.
    """
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size + codes[..., :2] / weights[0] * size
    half = 0.5 * torch.exp((codes[..., 2:] / weights[1]).clamp(max=4.135166556742356)) * size
    return torch.cat((centre - half, centre + half), -1)
