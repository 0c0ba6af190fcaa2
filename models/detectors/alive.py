"""Random weights of detectors that answer different images differently, and find something in them.

Freshly initialised, a detector hides or fakes everything: networks whose batch norms are folded give the same answer
to every image, frozen batch norms never get statistics, and class heads give each box the same score, so that nothing
is proposed, or all boxes tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# As much as other layers are shifted; see `models.build.make_alive`.
SHIFT = 1.0
LEAST_DEVIATION = 1e-3
# The standard deviation of the logits of trained heads is about this.
LOGIT_DEVIATION = 2.0


def set_statistics(network: nn.Module, images: Tensor, plain: Sequence[nn.Module] = (), shift: float = SHIFT) -> None:
    """Give layers that have no statistics of their own those of one batch of images, in one forward pass.

    In every channel, the output of each frozen batch norm gets a mean and a standard deviation of one, and that of each
    convolution without a norm that is named a standard deviation of one and the mean that is given.

    Args:
        network: the network in evaluation mode, which is changed in place.
        images: the batch, fp32 [n, 3, h, w], normalised.
        plain: the convolutions without a norm.
        shift: the mean of their output. The larger it is, the more of each layer is linear, and the less noise grows.
    """
    from torchvision.ops import FrozenBatchNorm2d

    handles = [layer.register_forward_hook(partial(_normalise_output, shift)) for layer in plain]
    for layer in network.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            handles.append(layer.register_forward_pre_hook(_take_statistics))
    if handles:
        with torch.no_grad():
            network(images)
    for handle in handles:
        handle.remove()


def scale_outputs(network: nn.Module, images: Tensor, heads: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Scale the last layers of heads so that what they give has the deviation of trained logits, and no offset.

    All layers of one head are scaled alike, because its levels share their scale.

    Args:
        network: the network, which is changed in place.
        images: a batch of images, fp32 [n, 3, h, w], normalised.
        heads: for each output by its name, the layers that it comes from.
    """
    names: Sequence[str] = network.output_names  # type: ignore[assignment]
    with torch.no_grad():
        found = network(images)
        for output, layers in heads:
            factor = LOGIT_DEVIATION / max(float(found[list(names).index(output)].std()), LEAST_DEVIATION)
            for layer in layers:
                layer.weight.mul_(factor)
                if layer.bias is not None:
                    layer.bias.zero_()


def _take_statistics(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    deviation, mean = torch.std_mean(inputs[0], dim=(0, 2, 3))
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(deviation.square().clamp(min=LEAST_DEVIATION**2))
    layer.weight.fill_(1.0)
    layer.bias.fill_(SHIFT)


def _normalise_output(shift: float, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(output, dim=(0, 2, 3), keepdim=True)
    factor = 1 / deviation.clamp(min=LEAST_DEVIATION)
    layer.weight.mul_(factor.view(-1, 1, 1, 1))
    layer.bias.sub_(mean.flatten()).mul_(factor.flatten()).add_(shift)
    return (output - mean) * factor + shift
