"""Variants of models: other normalisation layers, groups and expansion ratios, as words behind a `+` of a name.

    resnet50+gn32                group norm of 32 groups in place of batch norm
    resnet50+gn32s               the same with strided groups: every 32nd channel is of one group
    resnet50+nonorm              no normalisation layers
    efficientnet_b0+e4+g16+gn4   expansion ratio 4, group convolutions of 16 channels in place of depthwise ones
    resnet50+gn32+eps0.001       with another epsilon than 1e-5

Each is another function of the image, so that it is another model and has no published weights. Nothing here may depend
on torch: test collection reads names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

SEPARATOR = "+"
DEFAULT_EPS = 1e-5
EXPAND_RATIO, GROUP_CHANNELS = 6, 1
# The rows of the catalogue that are variants of another row under a name of their own.
ALIASES = {
    "efficientnet_b0_g16_gn": "efficientnet_b0+e4+g16+gn4+eps0.001",
    "efficientnet_b4_g16_gn": "efficientnet_b4+e4+g16+gn4+eps0.001",
}

_WORD = re.compile(
    r"e(?P<expand>[1-9]\d*)|g(?P<group>[1-9]\d*)|gn(?P<groups>[1-9]\d*)(?P<strided>s?)|(?P<none>nonorm)"
    r"|eps(?P<eps>\d+(?:\.\d+)?(?:e-?\d+)?)"
)


class NoVariant(ValueError):
    """The words are no variant; the message says why."""


@dataclass(frozen=True)
class Variant:
    """What is other than in the model of the library.

    Attributes:
        groups: the number of groups of each group norm; 0 for no normalisation layers, None for those of the library.
        strided: whether group `g` of `G` has the channels `g`, `g + G`, `g + 2 G`, … in place of adjacent ones.
        eps: the epsilon of each group norm.
        expand_ratio: the expansion ratio of an EfficientNet's blocks.
        group_channels: the channels in each group of an EfficientNet's spatial convolutions; 1 is depthwise.
    """

    groups: int | None = None
    strided: bool = False
    eps: float = DEFAULT_EPS
    expand_ratio: int = EXPAND_RATIO
    group_channels: int = GROUP_CHANNELS

    @property
    def has_own_blocks(self) -> bool:
        """Whether the convolutions are other than those of the library."""
        return (self.expand_ratio, self.group_channels) != (EXPAND_RATIO, GROUP_CHANNELS)

    def words(self) -> tuple[str, ...]:
        """Return the words of the name, in their order; none for the model of the library."""
        found = []
        if self.expand_ratio != EXPAND_RATIO:
            found.append(f"e{self.expand_ratio}")
        if self.group_channels != GROUP_CHANNELS:
            found.append(f"g{self.group_channels}")
        if self.groups == 0:
            found.append("nonorm")
        elif self.groups is not None:
            found.append(f"gn{self.groups}" + "s" * self.strided)
            if self.eps != DEFAULT_EPS:
                found.append(f"eps{self.eps:g}")
        return tuple(found)

    def name_of(self, base: str) -> str:
        """Return the name of this variant of a model; behind an alias are only the words in which it differs.

        Raises:
            NoVariant: the alias has no words for it.
        """
        if base not in ALIASES:
            return SEPARATOR.join((base, *self.words()))
        own = parse_variant(ALIASES[base])[1].words()
        name = SEPARATOR.join((base, *(word for word in self.words() if word not in own)))
        if parse_variant(name)[1] != self:
            raise NoVariant(
                f"{base} is {ALIASES[base]}, and has no name for what is asked; name a variant of that model"
            )
        return name


def parse_variant(name: str) -> tuple[str, Variant]:
    """Return the name of the model that a name is a variant of, and the variant.

    The words after an alias go before those that it stands for.

    Raises:
        NoVariant: a word is unknown, or two of them contradict each other.
    """
    base, *words = name.split(SEPARATOR)
    variant = parse_variant(ALIASES[base])[1] if base in ALIASES else Variant()
    seen: set[str] = set()
    for word in words:
        match = _WORD.fullmatch(word)
        if match is None:
            raise NoVariant(f"{name!r}: {word!r} is no variant; there are e4, g16, gn32, gn32s, nonorm and eps0.001")
        kind = "norm" if match["groups"] or match["none"] else re.sub(r"[\d.].*", "", word)
        if kind in seen:
            raise NoVariant(f"{name!r}: {word!r} denies another word of its kind; drop one")
        seen.add(kind)
        variant = _with(variant, match)
    if "eps" in seen and not variant.groups:
        raise NoVariant(f"{name!r}: an epsilon is of group norms; add gn32, or drop it")
    return base, variant


def _with(variant: Variant, match: re.Match[str]) -> Variant:
    if match["expand"]:
        return replace(variant, expand_ratio=int(match["expand"]))
    if match["group"]:
        return replace(variant, group_channels=int(match["group"]))
    if match["eps"]:
        return replace(variant, eps=float(match["eps"]))
    return replace(variant, groups=int(match["groups"] or 0), strided=bool(match["strided"]))
