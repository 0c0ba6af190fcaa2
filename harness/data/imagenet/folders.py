"""Finds images in folders: `val/<wnid>/*.JPEG`, `<wnid>/*.JPEG`, or any other folder of images.

Whatever lies there is among the images, or is told: an accuracy of a part of the set looks like one of the whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.data.imagenet.labels import class_indices
from harness.data.imagenet.splits import evaluation_root
from harness.data.images import ImageFile, NoImages

# All of torchvision's IMG_EXTENSIONS and of timm's, and the further formats that Pillow decodes of itself.
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
        *(".jpe", ".jfif", ".gif", ".jp2", ".avif"),
    )
)
_WNID = re.compile(r"n\d{8}")
# A file of Git LFS or git-annex that stands for content elsewhere begins so, and is small.
_POINTERS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
    b"/annex/objects/",
)
_LARGEST_POINTER_BYTES = 1024
_NAMED = 3


def find_images(folder: Path, report: Callable[[str], None] = lambda text: None) -> list[ImageFile]:
    """Return all images under `folder`, or under its validation split if it holds splits, in the order of their paths.

    Linked folders are followed, and an image may lie in folders below that of its class. The class index comes from
    the full sorted list of 1,000 wnids, never from which folders exist. A folder of images without any wnid is an
    unlabelled set. Files that have no suffix of an image are left out, and reported with their count.

    Args:
        folder: the folder that the user names.
        report: called with a text that names what is left out.

    Raises:
        NoImages: if the folder is absent or holds no image, if a folder cannot be read, if some of the images are links
            or pointers to content that is not there, if only some of the folders are named by one of the 1,000 wnids,
            or if it is not clear which split is meant.
    """
    if not folder.is_dir():
        raise NoImages(f"no folder {folder}")
    root = evaluation_root(folder)
    files = sorted(_files(root))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not paths and all(path.exists() for path in files):
        raise NoImages(f"no images ({', '.join(sorted(SUFFIXES))}) under {root}{_left_out(files)}")
    _require_content(paths, files)
    if len(files) > len(paths):
        report(f"{len(paths):,} images{_left_out([path for path in files if path.suffix.lower() not in SUFFIXES])}")
    labels = {parent: _label(parent.relative_to(root)) for parent in {path.parent for path in paths}}
    if root.name in class_indices():
        labels = {parent: class_indices()[root.name] if label is None else label for parent, label in labels.items()}
    strangers = sorted(parent for parent, label in labels.items() if label is None)
    is_labelled = len(strangers) < len(labels) or any(_WNID.fullmatch(stranger.name) for stranger in strangers)
    if is_labelled and strangers:
        raise NoImages(
            f"{len(strangers)} of the folders are none of the 1,000 wnids of ILSVRC2012: {_first(strangers)}; "
            f"move them out, or name them by their wnid"
        )
    return [ImageFile(path, labels[path.parent]) for path in paths]


def _files(root: Path) -> Iterator[Path]:
    """Yield everything under `root` that is no folder. A linked folder is followed, though not into a circle."""

    def refuse(error: OSError) -> None:
        raise NoImages(f"{error.filename} cannot be read: {error.strerror}; let this user read it") from error

    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(folder)
        below[:] = [name for name in below if not ((here / name).is_symlink() and _is_circle(here / name, root))]
        yield from (here / name for name in names)


def _is_circle(link: Path, root: Path) -> bool:
    """Return whether the link leads back to one of the folders through which it was reached."""
    passed = [folder for folder in link.parents if folder == root or root in folder.parents]
    return link.resolve() in {folder.resolve() for folder in passed}


def _label(below: Path) -> int | None:
    """Return the class that the folders between the root and an image name; None if none of them is a wnid."""
    named = [part for part in below.parts if part in class_indices()]
    if len(set(named)) > 1:
        raise NoImages(f"the folder {below} names several classes: move its images into one of them")
    return class_indices()[named[0]] if named else None


def _require_content(paths: list[Path], files: list[Path]) -> None:
    links = [path for path in files if not path.exists()]  # also of a folder, which has no suffix
    if links:
        raise NoImages(
            f"{len(links):,} of {len(files):,} files are links to what is not there: {_first(links)}; "
            f"fetch them (git annex get, dvc pull), mount what they point to, or remove the links"
        )
    pointers = [path for path in paths if _is_pointer(path)]
    if pointers:
        raise NoImages(
            f"{len(pointers):,} of {len(paths):,} images are pointers to content that is not fetched: "
            f"{_first(pointers)}; fetch it (git lfs pull, git annex get)"
        )


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _LARGEST_POINTER_BYTES:
        return False
    try:
        with path.open("rb") as file:
            return file.read(max(map(len, _POINTERS))).startswith(_POINTERS)
    except OSError:
        return False  # decoding names a file that cannot be read


def _first(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:_NAMED])) + (", …" if len(paths) > _NAMED else "")


def _left_out(others: list[Path]) -> str:
    """Return how many files are no images by their suffix, by suffix."""
    if not others:
        return ""
    kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"; {len(others):,} files are left out, for they are no images by their suffix ({counts}): {_first(others)}"
