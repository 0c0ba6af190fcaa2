"""The networks that are modules of this project, by name. Nothing here may depend on weights, devices or pytest."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from models import detectors
from models.efficientnet_g16_gn import efficientnet_b0_g16_gn, efficientnet_b4_g16_gn

_CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet_b0_g16_gn": efficientnet_b0_g16_gn,
    "efficientnet_b4_g16_gn": efficientnet_b4_g16_gn,
}


def network_of(arch: str) -> nn.Module:
    """Return the network of that name, with random weights.

    Raises:
        KeyError: there is none.
    """
    return detectors.network_of(arch) or _CLASSIFIERS[arch]()
