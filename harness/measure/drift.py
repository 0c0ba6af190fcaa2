"""A drift of the rounds: whether a machine got slower or faster while it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

PARTS = 3


def slope_pct(rounds_s: Sequence[float]) -> float | None:
    """Return by how many percent rounds grew from the first third to the latest, or None if there are under three.

    Each third is represented by its median, which a few rounds that were held up do not move.

    Args:
        rounds_s: the rounds in order, in seconds.
    """
    third = len(rounds_s) // PARTS
    if not third:
        return None
    return (statistics.median(rounds_s[-third:]) / statistics.median(rounds_s[:third]) - 1) * 100
