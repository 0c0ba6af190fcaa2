"""The objects that annotations mark in images: the types, and what makes annotations unusable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.data.images import NoImages

# The boxes of COCO's own annotations pass the border of their image by no more than a rounding.
MOST_OUTSIDE_PX = 1.0
_NAMED = 3


@dataclass(frozen=True)
class MarkedObject:
    """One object, or one crowd of objects, that an annotation marks in an image.

    Attributes:
        image_id: the image's id in the annotations.
        category_id: the id of what it is, one of `Objects.categories`.
        box: its left edge, upper edge, width and height, in pixels of the image.
        area: the area of its outline in square pixels, by which COCO calls it small, medium or large.
        is_crowd: whether it is a crowd: finding it is neither right nor wrong.
    """

    image_id: int
    category_id: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclass(frozen=True)
class Objects:
    """What annotations say of the images of a data set.

    Attributes:
        categories: the name of each category by its id; ids need not be consecutive.
        sizes: the width and the height of each image in pixels, by the image's id.
        marked: every object, image by image in the order of the annotations. An image may have none.
    """

    categories: Mapping[int, str]
    sizes: Mapping[int, tuple[int, int]]
    marked: Sequence[MarkedObject]


def require_usable(objects: Objects, place: str) -> None:
    """Check that every object is of a known category and image, and lies in its image.

    Args:
        objects: the annotations.
        place: where they are from, for messages.

    Raises:
        NoImages: if one is not; the message names the mistake, how many objects show it, and the first of them.
    """
    if not objects.marked:
        raise NoImages(f"{place} marks no object, so there is nothing to find")
    _refuse(
        (f"image {one.image_id}" for one in objects.marked if one.image_id not in objects.sizes),
        f"{place} marks objects in images that it does not list",
    )
    known = f"{min(objects.categories)} to {max(objects.categories)}"
    _refuse(
        (
            f"{one.category_id} in image {one.image_id}"
            for one in objects.marked
            if one.category_id not in objects.categories
        ),
        f"{place} has objects of a category that it does not list among its {len(objects.categories)} ({known})",
    )
    _refuse(
        (
            f"{_text(one)}"
            for one in objects.marked
            if not all(map(math.isfinite, (*one.box, one.area))) or min(one.box[2:]) <= 0 or one.area <= 0
        ),
        f"{place} has boxes without an area",
    )
    if all(one.box[0] + one.box[2] <= 2 and one.box[1] + one.box[3] <= 2 for one in objects.marked):
        raise NoImages(
            f"{place} has normalised boxes, all of them within 2 pixels: COCO's are in pixels, and sizes are judged by "
            f"pixels; multiply them by the width and the height of their image"
        )
    _refuse(
        (_text(one) for one in objects.marked if _outside_px(one, objects.sizes[one.image_id]) > MOST_OUTSIDE_PX),
        f"{place} has boxes outside their image",
    )


def _outside_px(one: MarkedObject, size: tuple[int, int]) -> float:
    left, upper, width, height = one.box
    return max(-left, -upper, left + width - size[0], upper + height - size[1])


def _text(one: MarkedObject) -> str:
    return f"{', '.join(f'{value:g}' for value in one.box)} (x, y, width, height) in image {one.image_id}"


def _refuse(found: Iterable[str], mistake: str) -> None:
    names = list(found)
    if names:
        more = ", …" if len(names) > _NAMED else ""
        raise NoImages(f"{mistake}: {len(names):,}, such as {'; '.join(names[:_NAMED])}{more}; mend or remove them")
