"""How large a head's answers are, measured against the reference's: what noise does not change and a scale does.

The ratio of signal to noise takes an answer that is half as large again for one with noise. The gain tells the two
apart: noise of a short format leaves it at 1, however much of it there is, and a wrong scale shows in it at any noise.
"""

from __future__ import annotations

import numpy as np

from models.detectors.rfcn import BINS, BOX_MAPS
from models.detectors.two_stage import ANCHOR_CODES, CODES
from models.tasks.outputs import Array

# Below this share of a head's signal, a part of it tells too little for a gain of its own.
LEAST_SHARE = 0.01
_COORDINATES = 4


def by_coordinate(name: str, head: Array) -> Array:
    """Return the answers of a head [n, …] by what is to be looked at apart, [n, parts, numbers].

    Codes of boxes have a part for each coordinate, because a wrong scale may be that of one of them. All else is one
    part.

    Args:
        name: the name of the head.
        head: its answers.
    """
    count = len(head)
    if name in (CODES, ANCHOR_CODES):
        parts: Array = head.reshape(count, -1, _COORDINATES).transpose(0, 2, 1)
        return parts
    if name == BOX_MAPS:  # the bins of each coordinate are channels
        return head.reshape(count, _COORDINATES, BINS * BINS, -1).reshape(count, _COORDINATES, -1)
    return head.reshape(count, 1, -1)


def gain(reference: Array, found: Array) -> float:
    """Return how many times as large as the reference's answers the found ones are: that of the part farthest from 1.

    Two measures of it are taken, of answers less their means over the images: the slope of the line through them, which
    noise that is added leaves as it is, and the ratio of their deviations, which noise leaves as it is that takes the
    place of signal. Noise pulls the first down and the second up, so that 1 lies between them; a scale moves both. The
    gain is what lies between them and is nearest to 1.

    Args:
        reference: the reference's answers, [n, parts, numbers], that differ between images.
        found: the answers to the same images, of that shape.
    """
    centred = reference - reference.mean(axis=0)
    own = found - found.mean(axis=0)
    signal = np.einsum("npi,npi->p", centred, centred, dtype=np.float64)
    shared = np.einsum("npi,npi->p", centred, own, dtype=np.float64)
    tells = signal >= LEAST_SHARE * signal.sum()
    power = np.einsum("npi,npi->p", own, own, dtype=np.float64)
    measures = np.stack([shared[tells] / signal[tells], np.sqrt(power[tells] / signal[tells])])
    nearest = np.clip(1.0, measures.min(axis=0), measures.max(axis=0))
    return float(nearest[np.abs(nearest - 1).argmax()])
