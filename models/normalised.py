"""Models that take bytes and normalise them themselves, and the bytes that such a model takes.

A byte takes a quarter of the memory of an fp32 number, so that much less has to be copied to a device or sent to a
server. Nothing here may depend on devices, engines or pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.catalog import InputSpec
from models.tasks.outputs import CLASSIFIER_OUTPUTS, output_names


class Normalise(nn.Module):
    """Scales bytes to 0..1 and normalises each channel, in fp32 whatever the number format of the module around it.

    Bytes are exact in every format, but their products are not. Therefore a cast of the module that this is part of
    moves the constants to its device and leaves them in fp32.
    """

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class, and does not know this one
        scale: Tensor
        shift: Tensor

    def __init__(self, trained_input: InputSpec) -> None:
        """Compute the constants of `images * scale + shift`, which is `(images / 255 - mean) / std`."""
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (trained_input.mean, trained_input.std))
        for name, value in (("scale", 1 / (255 * std)), ("shift", -mean / std)):
            self.register_buffer(name, value.float().view(3, 1, 1), persistent=False)
        self._told = f"mean={trained_input.mean}, std={trained_input.std}"

    def forward(self, images: Tensor) -> Tensor:
        """Return images, uint8 [n, 3, h, w], as fp32 of the same shape, as `models.preprocess.normalise` does."""
        return images.to(torch.float32) * self.scale + self.shift

    def extra_repr(self) -> str:
        """Return the constants, so that the text of two modules differs where they do."""
        return self._told

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Apply what torch applies for a cast or a move, but keep the constants exact."""
        exact = self.scale, self.shift
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.scale, self.shift = (
            before.to(device=after.device) for before, after in zip(exact, (self.scale, self.shift), strict=True)
        )
        return self


class NormalisedInside(nn.Module):
    """A model around another one: it takes bytes, normalises them and passes them on in the other's number format."""

    if TYPE_CHECKING:
        number_format: Tensor

    def __init__(self, model: nn.Module, trained_input: InputSpec) -> None:
        """Take the model, which takes normalised images."""
        super().__init__()
        self.normalise = Normalise(trained_input)
        self.model = model
        # an empty tensor that a cast of the model casts too
        self.register_buffer("number_format", torch.empty(0), persistent=False)
        if (names := output_names(model)) != CLASSIFIER_OUTPUTS:
            self.output_names = names

    def forward(self, images: Tensor) -> Any:
        """Return the model's answer to images, uint8 [n, 3, h, w]."""
        return self.model(self.normalise(images).to(self.number_format.dtype))


def normalised_inside(model: nn.Module, trained_input: InputSpec) -> nn.Module:
    """Return a module in evaluation mode that takes bytes and holds the given one."""
    return NormalisedInside(model, trained_input).eval().requires_grad_(False)


def as_bytes(images: Tensor, trained_input: InputSpec) -> Tensor:
    """Return the bytes of which normalised images were made, uint8 of the same shape: the inverse of `normalise`.

    It is exact for images that were made of bytes, and rounds to the nearest byte for all others.

    Args:
        images: the images, fp32 [n, 3, h, w] or [3, h, w], normalised.
        trained_input: what they were normalised with.
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (trained_input.mean, trained_input.std))
    return (images * std).add_(mean).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def is_normalised(trained_input: InputSpec) -> bool:
    """Return whether a model's input is normalised at all, and not merely scaled to 0..1."""
    return trained_input.mean != (0.0, 0.0, 0.0) or trained_input.std != (1.0, 1.0, 1.0)
