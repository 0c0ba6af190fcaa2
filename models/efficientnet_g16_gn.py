"""EfficientNet with group convolutions of 16 channels and group normalisation, a module of this project.

It is the variant of "Making EfficientNet More Efficient" (Masters et al., 2021, https://arxiv.org/abs/2106.03640) as
Graphcore's inference examples configure it (`efficientnet-b0-g16-gn`, `efficientnet-b4-g16-gn` in
https://github.com/graphcore/examples, `vision/cnns/pytorch`): 16 channels per group in place of depthwise convolutions,
expansion ratio 4 in place of 6, and group norm of 4 groups with epsilon 1e-3 in place of batch norm. Trained weights
were never published. They are variants of `models.variants` under names of their own.

Only the architecture is here. Nothing here may depend on weights, inputs, devices or pytest.
"""

from __future__ import annotations

from torch import nn

from models.variant_modules import efficientnet, replace_norms
from models.variants import ALIASES, parse_variant


def efficientnet_b0_g16_gn() -> nn.Module:
    """Return EfficientNet-B0 G16-GN, made for 224 pixels: float images `[n, 3, h, w]` to logits `[n, 1000]`."""
    return _of("efficientnet_b0_g16_gn")


def efficientnet_b4_g16_gn() -> nn.Module:
    """Return EfficientNet-B4 G16-GN, made for 380 pixels: float images `[n, 3, h, w]` to logits `[n, 1000]`."""
    return _of("efficientnet_b4_g16_gn")


def _of(alias: str) -> nn.Module:
    arch, variant = parse_variant(ALIASES[alias])
    return replace_norms(efficientnet(arch, variant), variant, alias)
