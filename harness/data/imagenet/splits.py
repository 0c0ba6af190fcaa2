"""Finds the part of a data set that is to be evaluated, where a folder holds several splits.

A model is evaluated on the validation split. Its training split among the images would give an accuracy that is far too
good, and nobody could tell from the number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.data.imagenet.labels import class_indices
from harness.data.images import NoImages

# The words are those of timm's folder splits, and of the layouts in which ImageNet is passed on.
_VALIDATION = frozenset({"val", "valid", "validation", "eval", "evaluation"})
_OTHERS = frozenset({"train", "training", "test", "testing"})
# ILSVRC/Data/CLS-LOC/val, the layout of Kaggle, lies three folders down.
_DEEPEST = 3
_WNID = re.compile(r"n\d{8}")


def evaluation_root(folder: Path) -> Path:
    """Return the folder of the validation split in `folder`, or `folder` itself where it holds no splits.

    A folder is a split by the first or the last word of its name, in any case: `val`, `Validation`,
    `ILSVRC2012_img_val`.

    Raises:
        NoImages: if it is not clear which split is meant: there are several validation splits, other splits only, or
            class folders beside the splits.
    """
    found = sorted(_splits(folder, 1))
    if not found:
        return folder
    validation = {path.resolve(): path for path in found if _kind(path.name) == "validation"}
    if len(validation) == 1:
        (root,) = validation.values()
        beside = sorted(path.name for path in root.parent.iterdir() if path.name in class_indices())
        if not beside:
            return root
        raise NoImages(
            f"{root.parent} has the split {root.name} and, beside it, {len(beside)} folders of classes "
            f"({', '.join(beside[:3])}): move one of them out, or name the folder to evaluate, as --data {root}"
        )
    named = ", ".join(str(path.relative_to(folder)) for path in validation.values() or found)
    kinds = "several validation splits" if validation else "splits, and none for validation"
    raise NoImages(f"{folder} holds {kinds}: {named}; name the one to evaluate, as --data {found[0]}")


def _splits(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the splits that lie highest under `folder`."""
    try:
        with os.scandir(folder) as entries:
            below = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return  # whoever reads the images says why the folder cannot be read
    splits = [path for path in below if _kind(path.name)]
    yield from splits
    if not splits and depth < _DEEPEST:
        for path in below:
            if not _WNID.fullmatch(path.name):
                yield from _splits(path, depth + 1)


def _kind(name: str) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    ends = {*words[:1], *words[-1:]}
    return "validation" if ends & _VALIDATION else "other" if ends & _OTHERS else None
