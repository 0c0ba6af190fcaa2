"""Reads TF-record shards in the layout of TensorFlow's slim: `validation-?????-of-?????`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.data.imagenet.labels import IMAGENET_CLASSES, class_indices
from harness.data.images import ImageFile, NoImages
from harness.data.records import Example, read_examples

_SHARD = re.compile(r"validation-(\d{5})-of-(\d{5})")


def find_shards(folder: Path) -> list[Path]:
    """Return the validation shards in `folder` in their order; the list is empty if there are none.

    Raises:
        NoImages: if some of the shards that the names promise are missing.
    """
    found = sorted(path for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if found:
        promised = {int(match[2]) for path in found if (match := _SHARD.fullmatch(path.name))}
        if promised != {len(found)}:
            raise NoImages(f"{folder} has {len(found)} shards, but {found[0].name} says that there are {max(promised)}")
    return found


def read(paths: Sequence[Path], report: Callable[[str], None]) -> list[ImageFile]:
    """Return every image of the shards. The image bytes stay in the shards until an image is decoded.

    The labels in the shards are slim's: 1 to 1,000, with 0 for its background class, which no photograph has.

    Raises:
        NoImages: if a shard is cut off, or if a record has no image or a label that no class has.
    """
    images: list[ImageFile] = []
    for example in read_examples(paths, report):
        name = example.text("image/filename") or f"{example.path.name}@{example.start}"
        label = _label(example, f"{example.path}: {name}")
        images.append(ImageFile(example.path, label, name, example.opener))
    return images


def _label(example: Example, place: str) -> int:
    features = example.features
    if "image/encoded" not in features or "image/class/label" not in features:
        raise NoImages(f"{place} has no image/encoded or no image/class/label: not the layout of slim's shards")
    (label,) = features["image/class/label"].int64_list.value
    if not 1 <= label <= IMAGENET_CLASSES:
        raise NoImages(f"{place} has the label {label}; slim's are 1 to {IMAGENET_CLASSES}, the class index plus one")
    synset = example.text("image/class/synset")
    if synset and class_indices().get(synset) != label - 1:
        raise NoImages(f"{place} has the label {label} and the synset {synset}, which is {class_indices().get(synset)}")
    return int(label) - 1
