"""An engine's outputs as arrays on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def in_fp32(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy with floating-point numbers in fp32. Whole numbers, such as labels, stay as they are."""
    return np.array(array, np.float32) if array.dtype.kind == "f" else np.array(array)
