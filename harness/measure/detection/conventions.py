"""The conventions of boxes and categories that are mistaken for COCO's, each with the way to undo it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]
# What a label should have been: None where it stands for the background, `NOTHING` where for no category at all.
Relabel = Callable[[int], int | None]
NOTHING = -1


def _from_sizes(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    return np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _from_corners(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _swapped(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    swapped: Boxes = boxes[:, [1, 0, 3, 2]]
    return swapped


def _scaled_across(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    width, height = size
    scaled: Boxes = boxes * np.array([width / height, height / width] * 2)
    return scaled


def _multiplied(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    scaled: Boxes = boxes * np.array(size * 2)
    return scaled


# What is done to boxes by mistake, and what undoes it, given the boxes (corners) and the width and height of the image.
BOX_MISTAKES: Mapping[str, Callable[[Boxes, tuple[int, int]], Boxes]] = MappingProxyType(
    {
        "corners x0 y0 x1 y1 are written as x y width height": _from_corners,
        "boxes x y width height are taken for corners x0 y0 x1 y1": _from_sizes,
        "x and y of the boxes are swapped, as TensorFlow orders them": _swapped,
        "boxes are scaled by height and width in the wrong order": _scaled_across,
        "boxes are normalised: multiply them by the width and the height of their image": _multiplied,
    }
)


def label_mistakes(categories: Sequence[int]) -> dict[str, Relabel]:
    """Return what is done to categories by mistake, and what undoes it.

    Args:
        categories: the ids of the categories, in their order.
    """
    count, place = len(categories), {category: at for at, category in enumerate(categories)}
    first, last = categories[0], categories[-1]

    def numbered_from(begin: int) -> Relabel:
        return lambda label: categories[label - begin] if 0 <= label - begin < count else NOTHING

    def moved(step: int) -> Relabel:
        def relabel(label: int) -> int | None:
            if label not in place:
                return NOTHING
            at = place[label] + step
            return categories[at] if 0 <= at < count else None

        return relabel

    known = set(categories)
    return {
        f"categories are numbered from 0 to {count - 1} for ids from {first} to {last}": numbered_from(0),
        f"categories are numbered from 1 to {count} for ids from {first} to {last}": numbered_from(1),
        "category ids are one too low (off by one)": lambda label: label + 1 if label + 1 in known else NOTHING,
        "category ids are one too high (off by one)": lambda label: label - 1 if label - 1 in known else NOTHING,
        "the background is the last class, and is read as the first": moved(1),
        "the background is the first class, and is read as the last": moved(-1),
    }
