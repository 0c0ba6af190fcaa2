"""Small detectors for the self-tests."""

import torch

from models.detectors.faster_rcnn_fbnet import FbnetBetween, FbnetFasterRcnn, FbnetFeatures, FbnetHeads
from models.detectors.two_stage import TwoStage
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
