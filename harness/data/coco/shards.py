"""Reads COCO as TF records in the layout of TensorFlow's object detection: `coco_val.record`, in one file or in shards.

A record has one image with its boxes, which are normalised. Their coordinates become hundredths of a pixel, in which
COCO gives them, so that the boxes are those of the annotations again, to the last digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from harness.data.coco.categories import COCO_CATEGORIES
from harness.data.coco.folders import head_size, require_sizes
from harness.data.coco.objects import MarkedObject, Objects, require_usable
from harness.data.images import ImageFile, NoImages
from harness.data.records import Example, read_examples

_SHARD = re.compile(r"(?P<name>.+\.record)(?:-(?P<number>\d{5})-of-(?P<count>\d{5}))?")
_DIGITS = 2
_BOX = ("xmin", "ymin", "xmax", "ymax")


def is_record(path: Path) -> bool:
    """Return whether a file is a whole record file by its name, such as `coco_val.record`."""
    return path.is_file() and path.suffix == ".record"


def find_shards(folder: Path) -> list[Path]:
    """Return the record files of the validation images in `folder`; the list is empty if there are none.

    Raises:
        NoImages: if a shard that the names promise is missing, or if it is not clear which files are meant.
    """
    found: dict[str, list[tuple[Path, int]]] = {}
    for path in sorted(folder.iterdir()):
        match = _SHARD.fullmatch(path.name)
        if match and path.is_file():
            found.setdefault(match["name"], []).append((path, int(match["count"] or 1)))
    names = [name for name in found if "val" in name.lower()] or list(found)
    if not names:
        return []
    if len(names) > 1:
        raise NoImages(f"{folder} has several record files: {', '.join(names)}; move all but one of them out")
    shards = found[names[0]]
    promised = {count for _, count in shards}
    if promised != {len(shards)}:
        raise NoImages(
            f"{folder} has {len(shards)} shards, but {shards[0][0].name} says that there are {max(promised)}"
        )
    return [path for path, _ in shards]


def read(paths: Sequence[Path], report: Callable[[str], None]) -> tuple[list[ImageFile], Objects]:
    """Return every image of the shards, and what is marked in them. The image bytes stay in the shards.

    Raises:
        NoImages: if a shard is cut off, if a record lacks a feature, or if an object is unusable.
    """
    images: list[ImageFile] = []
    sizes: dict[int, tuple[int, int]] = {}
    marked: list[MarkedObject] = []
    heads: list[tuple[int, int] | None] = []
    for example in read_examples(paths, report):
        place = f"{example.path.name} at byte {example.start}"
        image_id = _image_id(example, place)
        if image_id in sizes:
            raise NoImages(f"{place} has the image/source_id {image_id}, which an earlier record has too")
        (width,) = _numbers(example, "image/width", place)
        (height,) = _numbers(example, "image/height", place)
        sizes[image_id] = int(width), int(height)
        name = Path(example.text("image/filename")).name or f"{image_id:012d}.jpg"
        images.append(ImageFile(example.path, None, name, example.opener, image_id))
        heads.append(head_size(BytesIO(example.features["image/encoded"].bytes_list.value[0])))
        marked.extend(_marked(example, image_id, int(width), int(height), place))
    if not images:
        raise NoImages(f"{', '.join(map(str, paths))} has no images")
    objects = Objects(COCO_CATEGORIES, sizes, marked)
    require_usable(objects, str(paths[0].parent if len(paths) > 1 else paths[0]))
    require_sizes(zip(images, heads, strict=True), objects)
    return images, objects


def _image_id(example: Example, place: str) -> int:
    for key in ("image/encoded", "image/source_id", "image/height", "image/width"):
        if key not in example.features:
            raise NoImages(f"{place} has no {key}: not the layout of TensorFlow's object detection")
    if not example.features["image/encoded"].bytes_list.value:
        raise NoImages(f"{place} has an image/encoded without an image")
    text = example.text("image/source_id")
    if not text.isdecimal():
        raise NoImages(f"{place} has the image/source_id {text!r}, which is no id of a COCO image")
    return int(text)


def _marked(example: Example, image_id: int, width: int, height: int, place: str) -> list[MarkedObject]:
    labels = _numbers(example, "image/object/class/label", place)
    columns = [_numbers(example, f"image/object/bbox/{side}", place) for side in _BOX]
    crowds, areas = (_numbers(example, f"image/object/{key}", place) for key in ("is_crowd", "area"))
    lengths = {len(values) for values in (labels, *columns, crowds, areas)}
    if len(lengths) != 1:
        raise NoImages(
            f"{place}, image {image_id}: {len(labels)} labels, {len(columns[0])} boxes, {len(crowds)} is_crowd and "
            f"{len(areas)} area; each object needs all of them, or crowds would be counted as objects"
        )
    if any(value > 2 for column in columns for value in column):
        raise NoImages(f"{place}, image {image_id}: boxes in pixels, where those of a record are normalised, 0 to 1")
    found = []
    for label, left, upper, right, lower, crowd, area in zip(labels, *columns, crowds, areas, strict=True):
        x, y = round(left * width, _DIGITS), round(upper * height, _DIGITS)
        box = (x, y, round((right - left) * width, _DIGITS), round((lower - upper) * height, _DIGITS))
        found.append(MarkedObject(image_id, int(label), box, float(area), bool(crowd)))
    return found


def _numbers(example: Example, key: str, place: str) -> list[float]:
    """Return the numbers of a feature; none where it is absent or empty, as for an image without objects."""
    feature: Any = example.features.get(key)
    values = [] if feature is None else [*feature.float_list.value, *feature.int64_list.value]
    if not values and key in ("image/width", "image/height"):
        raise NoImages(f"{place} has no number in {key}")
    return values
