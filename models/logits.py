"""Networks that answer with more than logits: the one module around them that gives the logits alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The classes of torchvision whose scripted form answers with a named tuple of logits and of auxiliary logits, whether
# or not there are any. Source: `forward` of torchvision.models.Inception3 and GoogLeNet.
_TUPLES_WHEN_SCRIPTED = ("Inception3", "GoogLeNet")


class LogitsOnly(nn.Module):
    """A network whose answer is its logits, in Python and as TorchScript."""

    def __init__(self, network: nn.Module) -> None:
        """Take the network, which answers with a tensor in Python, and as TorchScript with a tuple."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of the images [n, 3, h, w]."""
        # TorchScript compiles the branch alone that it takes.
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            answer: Tensor = self.network(images)[0]
        else:
            answer = self.network(images)
        return answer


def logits_only(module: nn.Module) -> nn.Module:
    """Return the module itself, or one around it where some form of it answers with more than its logits."""
    return LogitsOnly(module).eval() if type(module).__name__ in _TUPLES_WHEN_SCRIPTED else module
