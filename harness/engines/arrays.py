"""Conversion of an engine's outputs to arrays on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def in_fp32(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a copy of the array in fp32. Arrays of integers, such as labels, keep their type."""
    return np.array(array, np.float32) if array.dtype.kind == "f" else np.array(array)
