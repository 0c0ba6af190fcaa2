"""Small detectors for the self-tests."""

from collections import OrderedDict

import torch
from torch import nn

from models.detectors.faster_rcnn_fbnet import FbnetBetween, FbnetFasterRcnn, FbnetFeatures, FbnetHeads
from models.detectors.two_stage import TwoStage
from models.detectors.whole import Placed, Whole
from models.preprocess import generated_images

# The least width that gives every layer eight channels at least.
TINY_DETECTOR = "ssd_mobilenet_v1_010"
# The height and width of the small detector of two stages, and its proposals.
SIZE, COUNT = (96, 96), 8


def small_images(count, seed=0):
    """Generated images for the small detector of two stages."""
    return generated_images(count, SIZE, seed).float() - 120.5


def small_two_stage(seed=0):
    """A detector of two stages with live random weights, for small images."""
    torch.manual_seed(seed)
    layers = FbnetFasterRcnn().eval().requires_grad_(False)
    detector = TwoStage(FbnetFeatures(layers), FbnetHeads(layers), FbnetBetween(SIZE, COUNT)).eval()
    detector.enliven(small_images(8, seed=7))
    return detector


def small_whole(is_padded=False):
    """A whole SSD of torchvision with two layers, for images of 64 pixels."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    class Body(nn.Module):
        out_channels = (8,)

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3, stride=8, padding=1)

        def forward(self, images):
            return OrderedDict({"0": self.layer(images).relu()})

    torch.manual_seed(0)
    network = SSD(Body(), DefaultBoxGenerator([[2]], scales=[0.3, 0.6]), (64, 64), 5, detections_per_img=7).eval()
    network.transform = Placed((64, 64), is_padded=is_padded)
    return Whole(network).eval().requires_grad_(False)
