"""The detectors of torchvision whole: from images to objects in one module, decoding and suppression inside it.

What comes before torchvision's own code is here as for every other row: images come normalised, resized and placed in
one size. Nothing here may depend on devices, engines or pytest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.detectors.torchvision_networks import SingleStage, create, grids
from models.detectors.two_stage import TwoStage, extents

BOXES, SCORES, LABELS = "boxes", "scores", "labels"
WHOLE = (BOXES, SCORES, LABELS)


class Placed(nn.Module):
    """What stands for torchvision's transform: the images are normalised and placed already."""

    def __init__(self, size: tuple[int, int], *, is_padded: bool) -> None:
        """Take the height and width of the input, and whether images may take only the top left of it."""
        super().__init__()
        self.size, self.is_padded = size, is_padded

    def forward(self, images: list[Tensor], targets: None = None) -> tuple[Any, None]:
        """Return the images as torchvision's detectors take them, with the height and width of each."""
        from torchvision.models.detection.image_list import ImageList

        batch = torch.stack(images)
        if not self.is_padded:
            return ImageList(batch, [self.size] * len(images)), targets
        return ImageList(batch, [(int(height), int(width)) for height, width in extents(batch)]), targets

    def postprocess(self, found: list[dict[str, Tensor]], sizes: Any, original: Any) -> list[dict[str, Tensor]]:
        """Return the objects as they are, in pixels of the input."""
        return found


class Whole(nn.Module):
    """Images [n, 3, h, w] to boxes [n, k, 4], scores [n, k] and labels [n, k]; rows of zeros fill up the number.

    The boxes are corners in pixels of the input, the labels COCO's category ids in fp32, the likeliest first.
    """

    output_names = WHOLE

    def __init__(self, network: Any) -> None:
        """Take torchvision's network with its transform replaced."""
        super().__init__()
        self.network = network
        heads = getattr(network, "roi_heads", network)
        self.count = int(heads.detections_per_img)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what torchvision's network finds."""
        found = self.network([*images])
        boxes, scores, labels = (torch.stack([self._filled(one[name]) for one in found]) for name in WHOLE)
        return boxes, scores[..., 0], labels[..., 0]

    def _filled(self, rows: Tensor) -> Tensor:
        """Return exactly `count` rows, fp32 [count, numbers]. The last shape is constant, for exporters."""
        numbers = 4 if rows.dim() == 2 else 1
        flat = rows.to(torch.float32).reshape(-1, numbers)
        empty = torch.zeros(self.count, numbers, dtype=torch.float32, device=rows.device)
        return torch.cat([flat, empty])[: self.count].reshape(self.count, numbers)


def whole_of(arch: str, module: nn.Module, size: tuple[int, int], *, is_padded: bool) -> Whole:
    """Return torchvision's detector around the layers of a network that was taken apart.

    Args:
        arch: torchvision's name of the detector.
        module: the network up to its raw heads, see `models.detectors.torchvision_networks.split`; the layers are
            shared.
        size: the height and width of the input.
        is_padded: whether an image may take only the top left of the input.
    """
    network = create(arch)
    if isinstance(module, TwoStage):
        network.backbone, network.rpn.head = module.features.backbone, module.features.head
        network.roi_heads.box_head, network.roi_heads.box_predictor = module.heads.body, module.heads.predictor
        _know_scales(network, size)
    else:
        assert isinstance(module, SingleStage), "not a detector of torchvision"
        network.backbone, network.head = module.backbone, module.head
    network.transform = Placed(size, is_padded=is_padded)
    return Whole(network).eval().requires_grad_(False)


def _know_scales(network: Any, size: tuple[int, int]) -> None:
    """Let torchvision's pooling take the scale of each map from the size of the input.

    It takes it in its first call from the size of an image, which is far smaller where the input is padded.
    """
    maps = {name: torch.zeros(1, 1, *grid) for name, grid in grids(network.backbone, size).items()}
    network.roi_heads.box_roi_pool(maps, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])], [size])
