"""The objects that a detector finds in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """The objects found in one image, the likeliest first.

    Attributes:
        boxes: their corners x0, y0, x1, y1 in pixels of the original image, fp32 [k, 4].
        scores: how likely each is, between 0 and 1, fp32 [k].
        labels: the COCO category id of each, 1 to 90, int64 [k].
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)
