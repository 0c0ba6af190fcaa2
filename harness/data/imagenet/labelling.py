"""Labels that the folders' names do not give: from a table in a file, or from folders that are numbered by class."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.imagenet.labels import IMAGENET_CLASSES, class_indices
from harness.data.images import ImageFile, NoImages

_NAMED = 3


def label_by_table(images: Sequence[ImageFile], table: Path) -> list[ImageFile]:
    """Return the images with the classes that a CSV gives.

    A row has the name of an image, with or without its suffix, and its class: a wnid or a class index from 0 to 999,
    behind which more words may follow, as in `LOC_val_solution.csv` of ILSVRC2012. A first row that names no class is
    the heading.

    Raises:
        NoImages: if the file cannot be read, if a row has no class, if two rows give one name different classes, if an
            image has no row, or if two images have the same one.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise NoImages(f"the labels {table} cannot be read: {error}") from error
    labels: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        words = row[1].split() if len(row) > 1 else []
        label = _class_of(words[0]) if words else None
        if label is not None:
            if labels.setdefault(row[0].strip(), label) != label:
                raise NoImages(f"{table}, row {number}: {row[0].strip()!r} has another class in an earlier row")
        elif number > 1:
            raise NoImages(f"{table}, row {number}: {','.join(row)!r} names no wnid and no class from 0 to 999")
    rows_of = [image.name if image.name in labels else Path(image.name).stem for image in images]
    found = [labels.get(name) for name in rows_of]
    twice = [name for name, count in Counter(rows_of).items() if count > 1 and name in labels]
    if twice:
        raise NoImages(
            f"{table} has one row for several images of the same name: {_first(twice)}; give them other names"
        )
    missing = [image.name for image, label in zip(images, found, strict=True) if label is None]
    if missing:
        raise NoImages(f"{table} has no row for {len(missing):,} of {len(images):,} images: {_first(missing)}")
    return [replace(image, label=label) for image, label in zip(images, found, strict=True)]


def label_by_number(images: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the images with the classes that number their folders, from 0 to 999 in the order of the sorted wnids.

    Raises:
        NoImages: if a folder has another name.
    """
    others = sorted({image.path.parent.name for image in images if _number(image.path.parent.name) is None})
    if others:
        raise NoImages(
            f"{len(others)} of the folders are not numbered from 0 to {IMAGENET_CLASSES - 1}: {_first(others)}"
        )
    return [replace(image, label=_number(image.path.parent.name)) for image in images]


def _class_of(word: str) -> int | None:
    known = class_indices().get(word)
    return _number(word) if known is None else known


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() and int(word) < IMAGENET_CLASSES else None


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
