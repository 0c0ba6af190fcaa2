"""EfficientNet with group convolutions of 16 channels and group normalisation, a module of this project.

It is the variant of "Making EfficientNet More Efficient" (Masters et al., 2021, https://arxiv.org/abs/2106.03640) as
Graphcore's inference examples configure it (`efficientnet-b0-g16-gn`, `efficientnet-b4-g16-gn` in
https://github.com/graphcore/examples, `vision/cnns/pytorch`): 16 channels per group in place of depthwise convolutions,
expansion ratio 4 in place of 6, and group norm of 4 groups with epsilon 1e-3 in place of batch norm. Trained weights
were never published. The blocks are timm's.

Only the architecture is here. Nothing here may depend on weights, inputs, devices or pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import GroupNormAct, get_act_layer
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet

GROUP_CHANNELS = 16
NORM_GROUPS = 4
NORM_EPS = 1e-3

_STEM_CHANNELS = 32
_STAGES = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e4_c24_se0.25"],
    ["ir_r2_k5_s2_e4_c40_se0.25"],
    ["ir_r3_k3_s2_e4_c80_se0.25"],
    ["ir_r3_k5_s1_e4_c112_se0.25"],
    ["ir_r4_k5_s2_e4_c192_se0.25"],
    ["ir_r1_k3_s1_e4_c320_se0.25"],
]

BlockArgs = list[list[dict[str, Any]]]


def efficientnet_b0_g16_gn() -> EfficientNet:
    """Return EfficientNet-B0 G16-GN, made for 224 pixels: float images `[n, 3, h, w]` to logits `[n, 1000]`."""
    return _efficientnet(width=1.0, depth=1.0, drop_rate=0.2)


def efficientnet_b4_g16_gn() -> EfficientNet:
    """Return EfficientNet-B4 G16-GN, made for 380 pixels: float images `[n, 3, h, w]` to logits `[n, 1000]`."""
    return _efficientnet(width=1.4, depth=1.8, drop_rate=0.4)


def _efficientnet(width: float, depth: float, drop_rate: float) -> EfficientNet:
    scale: Callable[[int], int] = partial(round_channels, multiplier=width)
    blocks: BlockArgs = decode_arch_def(_STAGES, depth)
    return EfficientNet(
        _with_group_convolutions(blocks, scale),
        num_features=scale(1280),
        stem_size=_STEM_CHANNELS,
        round_chs_fn=scale,
        act_layer=get_act_layer("swish"),
        norm_layer=partial(GroupNormAct, num_groups=NORM_GROUPS, eps=NORM_EPS),
        drop_rate=drop_rate,
        drop_path_rate=0.2,
    )


def _with_group_convolutions(blocks: BlockArgs, scale: Callable[[int], int]) -> BlockArgs:
    """Give every block the group size of its spatial convolution.

    B4's second block is 24 channels wide, which 16 does not divide. As in the source, the number of groups is rounded
    down, but never below one, so that this layer is an ordinary convolution.
    """
    grouped: BlockArgs = []
    channels = scale(_STEM_CHANNELS)
    for stage in blocks:
        grouped.append([])
        for block in stage:
            spatial = round(channels * block.get("exp_ratio", 1))
            groups = max(spatial // GROUP_CHANNELS, 1)
            grouped[-1].append(block | {"group_size": spatial // groups})
            channels = scale(block["out_chs"])
    return grouped
