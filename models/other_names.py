"""What the documents of other tools call models of the catalogue."""

from __future__ import annotations

# Graphcore's inference harness, then Intel's model zoo.
OTHER_NAMES = {
    "efficientnet-b0": "efficientnet_b0",
    "efficientnet-b4": "efficientnet_b4",
    "efficientnet-b0-g16-gn": "efficientnet_b0_g16_gn",
    "efficientnet-b4-g16-gn": "efficientnet_b4_g16_gn",
    "mobilenet-v3-small": "mobilenetv3_small_100",
    "mobilenet-v3-large": "mobilenetv3_large_100",
    "resnext50": "resnext50_32x4d",
    "resnext101": "resnext101_32x4d",
    "resnet50v1_5": "resnet50",
    "inceptionv3": "inception_v3",
    "inceptionv4": "inception_v4",
    "faster_rcnn": "fasterrcnn_resnet50_fpn",
    "rfcn": "rfcn_resnet101",
    "ssd-mobilenet": "ssd_mobilenet_v1",
    "ssd_mobilenet": "ssd_mobilenet_v1",
}
