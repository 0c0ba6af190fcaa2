"""SSD-MobileNet v1 at 300 pixels, with the anchors of the TensorFlow detection model zoo, a module of this project.

Liu et al., "SSD: Single Shot MultiBox Detector" (2016), on MobileNet v1, as `ssd_mobilenet_v1_coco` of that zoo
configures it. Its batch norms are folded into its convolutions. Nothing here may depend on weights, inputs, devices or
pytest.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.detectors.alive import scale_outputs, set_statistics

SIZE = 300
# The mean that random weights give each layer: with that of other networks, int8 leaves hardly any signal in so many
# layers of ReLU6 (3.8 dB on openvino).
SHIFT = 2.0
# Of each of thirteen blocks, the stride of the depthwise convolution and the channels of the pointwise one.
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_CHANNELS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_TAPS = (10, 12)
# Of each extra stage, the channels that it is reduced to and those that it gives.
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
_GRIDS = (19, 10, 5, 3, 2, 1)
_ANCHORS = (3, 6, 6, 6, 6, 6)
_LEAST_CHANNELS = 8


class SamePadConv(nn.Conv2d):
    """A convolution with TensorFlow's padding SAME: the odd row and column go to the bottom and the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, size: int, groups: int = 1) -> None:
        """Take the sizes of the convolution, and the height and width of what it is given, which are fixed."""
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        super().__init__(inputs, outputs, kernel, stride, before if before == after else 0, groups=groups)
        self.uneven = before != after
        self.before, self.after = before, after

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution of [n, c, size, size]."""
        if self.uneven:
            images = F.pad(images, (self.before, self.after, self.before, self.after))
        found: Tensor = self._conv_forward(images, self.weight, self.bias)
        return found


def _pair(first: nn.Module, second: nn.Module) -> nn.Sequential:
    """Return two convolutions with a rectifier behind each; they keep the names that the trained weights have."""
    return nn.Sequential(OrderedDict({"0": first, "relu0": nn.ReLU6(), "1": second, "relu1": nn.ReLU6()}))


class SsdMobileNetV1(nn.Module):
    """Images [n, 3, 300, 300] in -1..1 to box codes [n, 1917, 4] and class logits [n, 1917, classes]."""

    output_names = ("codes", "logits")

    def __init__(self, width: float = 1.0, classes: int = 91) -> None:
        """Make the network.

        Args:
            width: by how much all channels are multiplied.
            classes: the number of classes, the background among them.
        """
        super().__init__()

        def scaled(channels: int) -> int:
            return max(int(channels * width), _LEAST_CHANNELS)

        channels, size = scaled(32), SIZE
        self.stem = SamePadConv(3, channels, 3, 2, size)
        size = math.ceil(size / 2)
        self.blocks = nn.ModuleList()
        for stride, wide in zip(_STRIDES, _CHANNELS, strict=True):
            depthwise = SamePadConv(channels, channels, 3, stride, size, groups=channels)
            self.blocks.append(_pair(depthwise, nn.Conv2d(channels, scaled(wide), 1)))
            channels, size = scaled(wide), math.ceil(size / stride)
        tapped = [scaled(_CHANNELS[index]) for index in _TAPS]
        self.extras = nn.ModuleList()
        for narrow, wide in _EXTRAS:
            down = SamePadConv(scaled(narrow), scaled(wide), 3, 2, size)
            self.extras.append(_pair(nn.Conv2d(channels, scaled(narrow), 1), down))
            channels, size = scaled(wide), math.ceil(size / 2)
            tapped.append(channels)
        self.classes = classes
        self.box_heads = nn.ModuleList(nn.Conv2d(c, n * 4, 1) for c, n in zip(tapped, _ANCHORS, strict=True))
        self.class_heads = nn.ModuleList(nn.Conv2d(c, n * classes, 1) for c, n in zip(tapped, _ANCHORS, strict=True))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return box codes and class logits of every anchor, in the order of `anchors`."""
        x = F.relu6(self.stem(images))
        tapped: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == 10 or index == 12:
                tapped.append(x)
        for extra in self.extras:
            x = extra(x)
            tapped.append(x)
        codes: list[Tensor] = []
        logits: list[Tensor] = []
        for index, head in enumerate(self.box_heads):
            codes.append(head(tapped[index]).permute(0, 2, 3, 1).reshape(images.shape[0], -1, 4))
        for index, head in enumerate(self.class_heads):
            logits.append(head(tapped[index]).permute(0, 2, 3, 1).reshape(images.shape[0], -1, self.classes))
        return torch.cat(codes, 1), torch.cat(logits, 1)

    @torch.jit.unused
    def enliven(self, images: Tensor) -> None:
        """Make random weights alive. See `models.detectors.alive`."""
        layers = [layer for part in (self.stem, self.blocks, self.extras) for layer in part.modules()]
        set_statistics(self, images, [layer for layer in layers if isinstance(layer, nn.Conv2d)], SHIFT)
        scale_outputs(self, images, [("codes", list(self.box_heads)), ("logits", list(self.class_heads))])


def anchors(least: float = 0.2, greatest: float = 0.95) -> Tensor:
    """Return the anchors, fp32 [1917, 4], as centre y, centre x, height and width in shares of the image.

    Source: `ssd_anchor_generator` of the TensorFlow Object Detection API, with `reduce_boxes_in_lowest_layer`.
    """
    steps = len(_GRIDS) - 1
    scales = [least + (greatest - least) * index / steps for index in range(len(_GRIDS))] + [1.0]
    found = []
    for index, cells in enumerate(_GRIDS):
        shapes = [(scales[index], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        shapes.append((math.sqrt(scales[index] * scales[index + 1]), 1.0))
        if index == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        for y in range(cells):
            for x in range(cells):
                for scale, ratio in shapes:
                    root = math.sqrt(ratio)
                    found.append(((y + 0.5) / cells, (x + 0.5) / cells, scale / root, scale * root))
    return torch.tensor(found)


def decode_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes of codes [..., anchors, 4] as x0, y0, x1, y1 in shares of the image.

    Source: `faster_rcnn_box_coder` of the same API, with its scale factors 10, 10, 5 and 5.
    """
    y = codes[..., 0] / 10 * anchors[:, 2] + anchors[:, 0]
    x = codes[..., 1] / 10 * anchors[:, 3] + anchors[:, 1]
    half_height = torch.exp(codes[..., 2] / 5) * anchors[:, 2] / 2
    half_width = torch.exp(codes[..., 3] / 5) * anchors[:, 3] / 2
    return torch.stack((x - half_width, y - half_height, x + half_width, y + half_height), -1)
