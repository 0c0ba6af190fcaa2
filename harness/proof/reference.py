"""The reference whose answers every case is compared with: the same weights in fp32, eager, on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.devices.cpu import Cpu
from harness.proof.inputs import input_images
from models.build import build_module
from models.catalog import ModelSpec
from models.tasks import Outputs, output_names


def reference_outputs(module: torch.nn.Module, images: torch.Tensor) -> Outputs:
    """Return the module's answers in fp32 on the CPU, in eager mode, computed one image at a time.

    Args:
        module: the module in fp32, on the host, in evaluation mode.
        images: the images, fp32 [n, 3, h, w] on the host.
    """
    names = output_names(module)
    parts = []
    with Cpu().settings("fp32"), torch.inference_mode():
        for image in images:
            answer = module(image[None])
            tensors = (answer,) if isinstance(answer, torch.Tensor) else answer
            parts.append(Outputs(names, (tensor.float().numpy() for tensor in tensors)))
    return Outputs.join(parts)


class References:
    """The reference's answers to generated images, computed when they are first asked for.

    The images are the same for every case, so the cases of one model share the answers.
    """

    def __init__(self, spec: ModelSpec, weights: str | Path) -> None:
        """Remember what to build; nothing is built yet."""
        self._spec = spec
        self._weights = weights
        self._held: Outputs | None = None

    def outputs(self, count: int, module: torch.nn.Module | None = None) -> Outputs:
        """Return the answers to the first `count` images.

        Args:
            count: the number of images.
            module: the module in fp32 on the host, if it is built already; None to build it if it is needed.
        """
        if self._held is None or len(self._held) < count:
            if module is None:
                module = build_module(self._spec, self._weights).module
            self._held = reference_outputs(module, input_images(self._spec, count))
        return self._held.first(count)
