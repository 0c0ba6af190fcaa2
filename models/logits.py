"""Networks that answer with more than logits: the modules around them that give the logits alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# The classes of torchvision whose scripted form answers with a named tuple of logits and of auxiliary logits, whether
# or not there are any. Source: `forward` of torchvision.models.Inception3 and GoogLeNet.
_TUPLES_WHEN_SCRIPTED = ("Inception3", "GoogLeNet")
# All other networks of these packages answer with one tensor in evaluation mode, so that none has to be asked.
_KNOWN = ("timm", "torchvision", "models")
# What the logits are called where an answer has names; torchvision's segmenters say `out`.
_NAMES = ("logits", "out")


class UnknownAnswer(ValueError):
    """A network answers with something in which the logits cannot be told from the rest."""


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


class LogitsAt(nn.Module):
    """A network that answers with a tuple, whose logits are the part at a place."""

    __constants__ = ("place",)  # TorchScript takes the part of a tuple at a constant place alone

    def __init__(self, network: nn.Module, place: int) -> None:
        """Take the network and the index of its logits."""
        super().__init__()
        self.network, self.place = network, place

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of the images [n, 3, h, w]."""
        answer: Tensor = self.network(images)[self.place]
        return answer


class LogitsUnder(nn.Module):
    """A network that answers with a dictionary, whose logits are the part under a name."""

    __constants__ = ("name",)

    def __init__(self, network: nn.Module, name: str) -> None:
        """Take the network and the name of its logits."""
        super().__init__()
        self.network, self.name = network, name

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of the images [n, 3, h, w]."""
        answer: Tensor = self.network(images)[self.name]
        return answer


def logits_only(module: nn.Module, images: Callable[[], Tensor]) -> nn.Module:
    """Return the module itself, or one around it where some form of it answers with more than its logits.

    A module that says what its outputs are, by `output_names`, is left as it is. One that is of no known library has to
    answer an image first.

    Args:
        module: the module in evaluation mode.
        images: gives images of the size that the module takes, fp32 `[n, 3, h, w]`.

    Raises:
        UnknownAnswer: the logits cannot be told from the rest of the answer.
    """
    if type(module).__name__ in _TUPLES_WHEN_SCRIPTED:
        return LogitsOnly(module).eval()
    if hasattr(module, "output_names") or type(module).__module__.partition(".")[0] in _KNOWN:
        return module
    with torch.inference_mode():
        return _around(module, module(images())).eval()


def _around(module: nn.Module, answer: Any) -> nn.Module:
    """Return the module that gives the logits of such answers alone."""
    if isinstance(answer, Tensor):
        return module
    if isinstance(answer, dict):
        found = [name for name in _NAMES if isinstance(answer.get(name), Tensor)]
        if not found:
            raise UnknownAnswer(f"it answers with a dictionary of {', '.join(map(str, answer))}, and none is `logits`")
        return LogitsUnder(module, found[0])
    if isinstance(answer, tuple | list) and answer:
        fields = getattr(answer, "_fields", ())
        place = next((fields.index(name) for name in _NAMES if name in fields), 0)
        if isinstance(answer[place], Tensor):
            return LogitsAt(module, place)
    raise UnknownAnswer(f"it answers with {type(answer).__name__}, in which no logits are found")
