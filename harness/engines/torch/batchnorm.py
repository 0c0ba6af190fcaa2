"""Splitting timm's fused batch norm and activation, for devices that run the plain layers faster."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn


def replace_fused_batchnorm(module: nn.Module) -> int:
    """Replace timm's BatchNormAct2d by plain BatchNorm2d, drop and activation, in this module only.

    The new layers use the same parameter tensors, and the outputs are equal.

    Returns:
        The number of layers that were replaced.

    Source: the FBNet sample's patch, which changed timm's class for the whole process instead.
    """
    fused: Any = import_module("timm.layers").BatchNormAct2d
    replaced = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, fused):
                setattr(parent, name, _plain_batchnorm(child))
                replaced += 1
    return replaced


def _plain_batchnorm(fused: Any) -> nn.Sequential:
    plain = nn.BatchNorm2d(
        fused.num_features, fused.eps, fused.momentum, fused.affine, fused.track_running_stats, device="meta"
    )
    plain.weight, plain.bias = fused.weight, fused.bias
    plain.running_mean, plain.running_var = fused.running_mean, fused.running_var
    plain.num_batches_tracked = fused.num_batches_tracked
    plain.train(fused.training)
    return nn.Sequential(plain, fused.drop, fused.act)
