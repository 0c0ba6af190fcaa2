"""Batch norms whose statistics were folded into the weights, which training mode would ruin: frozen, or fitted anew.

Folded norms have a mean of 0 and a variance of 1. In training mode they would normalise by the statistics of the batch,
which the weights do not expect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

FOLDED_TOLERANCE = 1e-3


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics."""
    found = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in found if layer.running_mean is not None and layer.running_var is not None]


def is_folded(module: nn.Module) -> bool:
    """Return whether the module has batch norms and all of them have the statistics of none: mean 0, variance 1."""
    norms = norms_of(module)
    return bool(norms) and all(map(_is_trivial, norms))


def _is_trivial(norm: _BatchNorm) -> bool:
    assert norm.running_mean is not None and norm.running_var is not None
    farthest = max(float(norm.running_mean.abs().max()), float((norm.running_var - 1).abs().max()))
    return farthest < FOLDED_TOLERANCE


def refit(module: nn.Module, images: Sequence[Tensor]) -> int:
    """Set the statistics of every batch norm to those of its inputs, and its weights so that evaluation stays the same.

    Args:
        module: the module in fp32 on the host, which is changed in place.
        images: batches of images, fp32 [n, 3, h, w].

    Returns:
        The number of norms.
    """
    norms = norms_of(module)
    sums = [[torch.zeros(norm.num_features, dtype=torch.float64) for _ in range(2)] for norm in norms]
    counts = [0] * len(norms)

    def watch(index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def seen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].double().transpose(0, 1).flatten(1)
            sums[index][0] += values.sum(1)
            sums[index][1] += values.square().sum(1)
            counts[index] += values.shape[1]

        return seen

    hooks = [norm.register_forward_pre_hook(watch(index)) for index, norm in enumerate(norms)]
    module.eval()
    with torch.no_grad():
        for batch in images:
            module(batch)
    for hook in hooks:
        hook.remove()
    for norm, (total, squares), count in zip(norms, sums, counts, strict=True):
        if count:
            _set_statistics(norm, total / count, squares / count - (total / count).square())
    return len(norms)


def _set_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    before = (norm.running_var.double() + norm.eps).sqrt()
    after = (variance.clamp_min(0) + norm.eps).sqrt()
    with torch.no_grad():
        if norm.affine:
            scale = norm.weight.double() / before
            norm.bias.copy_(norm.bias.double() + (mean - norm.running_mean.double()) * scale)
            norm.weight.copy_(scale * after)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance.clamp_min(0))
