"""Finds images in folders: `val/<wnid>/*.JPEG`, `<wnid>/*.JPEG`, or any other folder of images."""

from __future__ import annotations

import re
from pathlib import Path

from harness.data.imagenet.labels import class_indices
from harness.data.images import ImageFile, NoImages

_SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
_WNID = re.compile(r"n\d{8}")


def find_images(folder: Path) -> list[ImageFile]:
    """Return all images under `folder`, or under its `val` if there is one, in the order of their paths.

    The class index comes from the full sorted list of 1,000 wnids, never from which folders exist. A folder of images
    without any wnid is an unlabelled set.

    Raises:
        NoImages: if the folder is absent or holds no image, or if only some of its folders are named by one of the
            1,000 wnids.
    """
    if not folder.is_dir():
        raise NoImages(f"no folder {folder}")
    root = folder / "val" if (folder / "val").is_dir() else folder
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise NoImages(f"no images ({', '.join(sorted(_SUFFIXES))}) under {root}")
    known = class_indices()
    strangers = sorted({path.parent for path in paths if path.parent.name not in known})
    is_labelled = any(path.parent.name in known for path in paths) or any(
        _WNID.fullmatch(stranger.name) for stranger in strangers
    )
    if is_labelled and strangers:
        named = ", ".join(str(stranger) for stranger in strangers[:3])
        raise NoImages(
            f"{len(strangers)} of the folders are none of the 1,000 wnids of ILSVRC2012: {named}; "
            f"move them out, or name them by their wnid"
        )
    return [ImageFile(path, known.get(path.parent.name)) for path in paths]
