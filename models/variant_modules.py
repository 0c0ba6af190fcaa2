"""Builds the module of a variant: an EfficientNet with other blocks, and other layers in place of batch norms.

A layer of timm that joins a batch norm and an activation keeps its activation. Nothing here may depend on weights,
inputs, devices or pytest.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.variants import NoVariant, Variant

# Width and depth of each EfficientNet, in timm's terms. Source: `_gen_efficientnet` in timm/models/efficientnet.py.
_EFFICIENTNETS = {
    **{"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)},
    **{"b4": (1.4, 1.8), "b5": (1.6, 2.2), "b6": (1.8, 2.6), "b7": (2.0, 3.1)},
}
_STAGES = (
    "r1_k3_s1_c16",
    "r2_k3_s2_c24",
    "r2_k5_s2_c40",
    "r3_k3_s2_c80",
    "r3_k5_s1_c112",
    "r4_k5_s2_c192",
    "r1_k3_s1_c320",
)
_STEM_CHANNELS = 32


class StridedGroupNorm(nn.Module):
    """Group norm whose group `g` of `G` has the channels `g`, `g + G`, `g + 2 G`, … in place of adjacent ones.

    It is what Graphcore's PopART computes with the option `groupNormStridedChannelGrouping`.
    """

    def __init__(self, groups: int, channels: int, eps: float) -> None:
        """Make the layer; its weight and bias are those of the channels in their own order."""
        super().__init__()
        self.groups, self.channels, self.eps = groups, channels, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.drop: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised activations [n, channels, h, w]."""
        members = self.channels // self.groups
        adjacent = images.unflatten(1, (members, self.groups)).transpose(1, 2).flatten(1, 2)
        normed = F.group_norm(adjacent, self.groups, None, None, self.eps)
        back = normed.unflatten(1, (self.groups, members)).transpose(1, 2).flatten(1, 2)
        scaled = back * self.weight[:, None, None] + self.bias[:, None, None]
        activated: Tensor = self.act(self.drop(scaled))
        return activated

    def extra_repr(self) -> str:
        """Return the sizes, so that the text of two modules differs where they do."""
        return f"{self.groups}, {self.channels}, eps={self.eps}"


def efficientnet(arch: str, variant: Variant) -> nn.Module:
    """Return timm's EfficientNet of that name with the variant's blocks, and with batch norms.

    Args:
        arch: timm's name: `efficientnet_b0` to `efficientnet_b7`, or one of these with `tf_` before it.
        variant: the expansion ratio and the channels of a group.

    Raises:
        NoVariant: it is another architecture.
    """
    from timm.layers import get_act_layer
    from timm.models._efficientnet_builder import decode_arch_def, round_channels
    from timm.models.efficientnet import EfficientNet

    match = re.fullmatch(r"(tf_)?efficientnet_(b[0-7])", arch)
    if match is None:
        raise NoVariant(f"expansion ratios and groups are of efficientnet_b0 to efficientnet_b7, and not of {arch}")
    width, depth = _EFFICIENTNETS[match[2]]
    scale = partial(round_channels, multiplier=width)
    first, *rest = _STAGES
    stages = [[f"ds_{first}_e1_se0.25"], *([f"ir_{stage}_e{variant.expand_ratio}_se0.25"] for stage in rest)]
    tensorflow: dict[str, Any] = {"pad_type": "same"} if match[1] else {}
    made: nn.Module = EfficientNet(
        _with_groups(decode_arch_def(stages, depth), scale, variant.group_channels),
        num_features=scale(1280),
        stem_size=_STEM_CHANNELS,
        round_chs_fn=scale,
        act_layer=get_act_layer("swish"),
        norm_layer=partial(nn.BatchNorm2d, eps=1e-3) if match[1] else nn.BatchNorm2d,
        **tensorflow,
    )
    return made


def _with_groups(blocks: Any, scale: Any, group_channels: int) -> Any:
    """Give every block the group size of its spatial convolution.

    Where the channels of a group do not divide the width, the number of groups is rounded down, but never below one, as
    in Graphcore's examples.
    """
    channels = scale(_STEM_CHANNELS)
    for stage in blocks:
        for block in stage:
            spatial = round(channels * block.get("exp_ratio", 1))
            block["group_size"] = spatial // max(spatial // group_channels, 1)
            channels = scale(block["out_chs"])
    return blocks


def replace_norms(module: nn.Module, variant: Variant, name: str) -> nn.Module:
    """Replace every batch norm of a module as the variant says, in place, and return the module.

    Raises:
        NoVariant: there is none, or the number of groups does not divide the channels of one.
    """
    if variant.groups is None:
        return module
    found = [
        (parent, key, layer)
        for parent in module.modules()
        for key, layer in parent.named_children()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    if not found:
        raise NoVariant(f"{name}: there is no batch norm to replace in it")
    widths = sorted({layer.num_features for _, _, layer in found})
    bad = [width for width in widths if variant.groups and width % variant.groups]
    if bad:
        most = max(count for count in range(1, widths[0] + 1) if not any(width % count for width in widths))
        raise NoVariant(
            f"{name}: {variant.groups} groups do not divide a layer of {bad[0]} channels; the largest number that "
            f"divides all of its {len(widths)} widths is {most}"
        )
    for parent, key, layer in found:
        setattr(parent, key, _replacement(layer, variant))
    return module


def _replacement(layer: nn.BatchNorm2d, variant: Variant) -> nn.Module:
    channels = layer.num_features
    parts: Any = layer
    joined = isinstance(getattr(parts, "act", None), nn.Module)
    drop, act = (parts.drop, parts.act) if joined else (nn.Identity(), nn.Identity())
    if not variant.groups:
        if hasattr(act, "inplace"):
            act.inplace = False  # without a norm before it, it would overwrite what a shortcut may still need
        return nn.Sequential(drop, act) if joined else nn.Identity()
    if not joined and not variant.strided:
        return nn.GroupNorm(variant.groups, channels, variant.eps)
    norm = _strided(channels, variant) if variant.strided else _adjacent(channels, variant)
    norm.drop, norm.act = drop, act
    made: nn.Module = norm
    return made


def _strided(channels: int, variant: Variant) -> Any:
    assert variant.groups
    return StridedGroupNorm(variant.groups, channels, variant.eps)


def _adjacent(channels: int, variant: Variant) -> Any:
    """Return timm's layer that joins a group norm and an activation, still without the activation."""
    from timm.layers import GroupNormAct

    assert variant.groups
    return GroupNormAct(channels, variant.groups, eps=variant.eps, apply_act=False)
