"""Reads COCO's own layout: `annotations/instances_val2017.json` and the images in `val2017/`, or any such pair."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from harness.data.coco.objects import MarkedObject, Objects, require_usable
from harness.data.images import ImageFile, NoImages

_PREFIX = "instances_"
_NAMED = 3
_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}


def find_pair(folder: Path) -> tuple[Path, Path] | None:
    """Return the folder of images and the file of annotations that belong together, or None if there is no such file.

    `instances_SPLIT.json` lies in `folder` or in its `annotations`, the images of that split in `SPLIT` or
    `images/SPLIT`. Of several, the one whose split begins with `val` is taken.

    Raises:
        NoImages: if it is not clear which pair is meant, or if the images of a file of annotations are not there.
    """
    files = sorted({*folder.glob(f"annotations/{_PREFIX}*.json"), *folder.glob(f"{_PREFIX}*.json")})
    if not files:
        return None
    chosen = [file for file in files if _split(file).startswith("val")]
    if len(chosen) != 1:
        kinds = "several annotations of validation images" if chosen else "annotations, and none of validation images"
        raise NoImages(
            f"{folder} has {kinds}: {', '.join(file.name for file in chosen or files)}; name the images and their "
            f"annotations, as --data {folder / _split(files[0])} --labels {files[0]}"
        )
    places = [folder / _split(chosen[0]), folder / "images" / _split(chosen[0])]
    for place in places:
        if place.is_dir():
            return place, chosen[0]
    raise NoImages(
        f"{chosen[0]} is there, and its images are not: neither {places[0]} nor {places[1]} is a folder; put them "
        f"there, or name both, as --data IMAGES --labels {chosen[0]}"
    )


def read_pair(
    folder: Path, annotations: Path, report: Callable[[str], None], *, skips_absent: bool = False
) -> tuple[list[ImageFile], Objects]:
    """Return the annotated images of a folder, and what is marked in them.

    Args:
        folder: the folder of the images.
        annotations: a file of COCO instances.
        report: called with a text before the file is read, and with what is left out.
        skips_absent: whether images that are annotated and not there are left out and reported.

    Raises:
        NoImages: if the file is no whole file of COCO instances, if an annotation is unusable, if images are absent, or
            if an image has another size than its annotation says.
    """
    report(f"reading {annotations.name}")
    listed, objects = _parse(_load(annotations), str(annotations))
    if not folder.is_dir():
        raise NoImages(f"no folder {folder}")
    images = [ImageFile(folder / name, None, None, None, image_id) for image_id, name in listed.items()]
    absent = [image for image in images if not image.path.is_file()]
    if absent and (not skips_absent or len(absent) == len(images)):
        names = ", ".join(image.name for image in absent[:_NAMED])
        raise NoImages(
            f"{annotations.name} has {len(images):,} images, and {len(absent):,} of them are not in {folder}: {names}"
            f"{', …' if len(absent) > _NAMED else ''}; fetch them, or leave them out with --skip-corrupt"
        )
    if absent:
        report(f"{len(absent):,} of {len(images):,} annotated images are not in {folder} and are left out")
        gone = {image.image_id for image in absent}
        images = [image for image in images if image.image_id not in gone]
        sizes = {image_id: size for image_id, size in objects.sizes.items() if image_id not in gone}
        objects = Objects(objects.categories, sizes, [one for one in objects.marked if one.image_id not in gone])
    require_sizes([(image, head_size(image.path)) for image in images], objects)
    return images, objects


def head_size(file: Path | BytesIO) -> tuple[int, int] | None:
    """Return the width and height that the head of an encoded image says, or None if it has no readable head.

    Such a file is left for the decoder to name.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as head:
            size: tuple[int, int] = head.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None
    return size


def require_sizes(found: Iterable[tuple[ImageFile, tuple[int, int] | None]], objects: Objects) -> None:
    """Check that each image has the size that its annotation says, or its boxes would be of another image.

    Args:
        found: each image with the size of its head.
        objects: the annotations.

    Raises:
        NoImages: if an image has another size.
    """
    sizes = [(image, size, objects.sizes[image.image_id or 0]) for image, size in found if size is not None]
    others = [(image, size, wanted) for image, size, wanted in sizes if size != wanted]
    if others:
        image, (width, height), (wide, high) = others[0]
        raise NoImages(
            f"{len(others):,} of {len(sizes):,} images have another size than their annotation: {image} has "
            f"{width} x {height} pixels, not {wide} x {high}; give the images that were annotated"
        )


def _split(annotations: Path) -> str:
    return annotations.stem.removeprefix(_PREFIX)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NoImages(f"the annotations {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoImages(f"the annotations {path} are cut off or no JSON: {error}") from error


def _parse(loaded: Any, place: str) -> tuple[dict[int, str], Objects]:
    """Return the file name of each image by its id, and the objects."""
    if not isinstance(loaded, Mapping):
        raise NoImages(f"{place} is no file of COCO instances: it is no mapping")
    for part, keys in _KEYS.items():
        rows = loaded.get(part)
        if not isinstance(rows, list) or (not rows and part != "annotations"):
            raise NoImages(f"{place} is no file of COCO instances: it has no {part!r}")
        for number, row in enumerate(rows, start=1):
            missing = [key for key in keys if key not in row]
            if missing:
                raise NoImages(
                    f"{place}: number {number} of its {part} has no {missing[0]!r}{_WHY.get(missing[0], '')}"
                )
    try:
        listed = {int(row["id"]): str(row["file_name"]) for row in loaded["images"]}
        objects = Objects(
            {int(row["id"]): str(row["name"]) for row in loaded["categories"]},
            {int(row["id"]): (int(row["width"]), int(row["height"])) for row in loaded["images"]},
            [_marked(row) for row in loaded["annotations"]],
        )
    except (TypeError, ValueError) as error:
        raise NoImages(f"{place} has a value of the wrong kind: {error}") from error
    for part, found in (("images", listed), ("categories", objects.categories)):
        if len(found) != len(loaded[part]):
            raise NoImages(f"{place} has {len(loaded[part])} {part} and only {len(found)} ids of them")
    _require_marked_crowds(loaded["annotations"], place)
    if len({Path(name).name for name in listed.values()}) != len(listed):
        raise NoImages(f"{place} names one file twice among its images")
    require_usable(objects, place)
    return listed, objects


_WHY = {
    "iscrowd": ": without it crowds would be counted as objects",
    "area": ": without it no object could be told to be small, medium or large",
}


def _require_marked_crowds(rows: Sequence[Mapping[str, Any]], place: str) -> None:
    """Check that objects that are outlined run by run, as COCO outlines crowds alone, are marked as crowds."""
    outlines = [row.get("segmentation") for row in rows]
    if not any(isinstance(outline, list) for outline in outlines):
        return  # outlines of another kind
    unmarked = [
        row for row, outline in zip(rows, outlines, strict=True) if isinstance(outline, dict) and not row["iscrowd"]
    ]
    if unmarked:
        raise NoImages(
            f"{place} has {len(unmarked):,} crowds that are not marked as such, the first in image "
            f"{unmarked[0]['image_id']}: outlined run by run, with iscrowd 0, they would be counted as objects; take "
            f"the published iscrowd"
        )


def _marked(row: Mapping[str, Any]) -> MarkedObject:
    x, y, width, height = (float(value) for value in row["bbox"])
    return MarkedObject(
        int(row["image_id"]), int(row["category_id"]), (x, y, width, height), float(row["area"]), bool(row["iscrowd"])
    )
