"""The networks whose rate is a machine's peak: nothing but large convolutions or large matrix products, four in a row.

A single layer would spend much of its time on what comes before and after it: int8 has to quantise its input, and an
engine may bring it into a layout of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

DEPTH = 4
SEED = 0


@dataclass(frozen=True)
class Probe:
    """A network of equal layers.

    Attributes:
        kind: `conv3x3`, `conv1x1` or `product`.
        channels: the channels of each layer's input and output.
        side: the height and width of the images, in pixels; 1 for a product.
        batch: the images of one call, or the rows of a product.
    """

    kind: str
    channels: int
    side: int
    batch: int

    def __str__(self) -> str:
        size = f"{self.side}x{self.side}" if self.side > 1 else "rows"
        return f"{self.kind} {self.channels} channels, {self.batch} x {size}"

    @property
    def flops(self) -> int:
        """The floating-point operations of one call, a multiplication and an addition counted as two."""
        taps = 9 if self.kind == "conv3x3" else 1
        return 2 * DEPTH * taps * self.channels**2 * self.side**2 * self.batch

    def module(self) -> nn.Module:
        """Return the network in fp32, in evaluation mode, with weights from a fixed seed. Global randomness stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            layers: list[nn.Module] = [nn.Flatten()] if self.kind == "product" else []
            for _ in range(DEPTH):
                layers += [self._layer(), nn.ReLU()]
        return nn.Sequential(*layers).eval().requires_grad_(False)

    def _layer(self) -> nn.Module:
        if self.kind == "product":
            layer: nn.Module = nn.Linear(self.channels, self.channels)
        else:
            taps = 3 if self.kind == "conv3x3" else 1
            layer = nn.Conv2d(self.channels, self.channels, taps, padding=taps // 2)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]  # a tensor, in both
        return layer

    def images(self, count: int) -> torch.Tensor:
        """Return inputs from a fixed seed, fp32 [count, channels, side, side]."""
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(count, self.channels, self.side, self.side, generator=generator)


# From small to large. A processor of few cores ends early in each row, an accelerator goes to its end.
LADDERS: tuple[tuple[Probe, ...], ...] = (
    (
        Probe("conv3x3", 128, 14, 32),
        Probe("conv3x3", 256, 14, 32),
        Probe("conv3x3", 256, 28, 32),
        Probe("conv3x3", 256, 56, 64),
        Probe("conv3x3", 512, 56, 64),
    ),
    (
        Probe("conv1x1", 256, 14, 32),
        Probe("conv1x1", 512, 14, 32),
        Probe("conv1x1", 1024, 28, 32),
        Probe("conv1x1", 2048, 28, 64),
    ),
    (
        Probe("product", 1024, 1, 1024),
        Probe("product", 2048, 1, 2048),
        Probe("product", 4096, 1, 4096),
        Probe("product", 8192, 1, 8192),
    ),
)


def climbing(ladder: tuple[Probe, ...], longest_s: float, rate_of: dict[Probe, float]) -> Iterator[Probe]:
    """Give the probes of a ladder from the smallest up, and end before one whose call would take longer than that.

    Args:
        ladder: the probes, from small to large.
        longest_s: the longest that a call may take, in seconds.
        rate_of: the FLOPs a second of each probe so far, which the caller fills.
    """
    for probe in ladder:
        known = [rate_of[before] for before in ladder if before in rate_of]
        if known and probe.flops / max(known) > longest_s:
            return
        yield probe
