"""Reads TF-record shards in the layout of TensorFlow's slim: `validation-?????-of-?????`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.data.imagenet.labels import IMAGENET_CLASSES, class_indices
from harness.data.images import ImageFile, NoImages

_SHARD = re.compile(r"validation-(\d{5})-of-(\d{5})")
_LENGTH_AND_CRC_BYTES, _CRC_BYTES = 12, 4  # before and behind each record


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
    try:
        from tfrecord import example_pb2
        from tfrecord.reader import tfrecord_iterator
    except ImportError as error:
        raise NoImages(f"TF-record shards need the package tfrecord ({error}): pip install tfrecord") from error

    images: list[ImageFile] = []
    for number, path in enumerate(paths, start=1):
        report(f"indexing {path.name}, {number} of {len(paths)}")
        offset = 0
        records = tfrecord_iterator(str(path))
        try:
            for record in records:
                start = offset + _LENGTH_AND_CRC_BYTES
                offset = start + len(record) + _CRC_BYTES
                features = example_pb2.Example.FromString(bytes(record)).features.feature
                opener = partial(_encoded, path, start, len(record))
                name = _text(features, "image/filename") or f"{path.name}@{start}"
                images.append(ImageFile(path, _label(features, f"{path}: {name}"), name, opener))
        except NoImages:
            raise
        except (RuntimeError, ValueError, MemoryError) as error:
            raise NoImages(f"{path} is cut off or no TF-record file, at byte {offset}: {error}") from error
        except Exception as error:  # protobuf's DecodeError, which derives from Exception alone
            if type(error).__name__ != "DecodeError":
                raise
            raise NoImages(f"{path} holds no tf.train.Example at byte {offset}") from error
    return images


def _encoded(path: Path, start: int, length: int) -> bytes:
    from tfrecord import example_pb2

    with path.open("rb") as file:
        file.seek(start)
        record = file.read(length)
    encoded: bytes = example_pb2.Example.FromString(record).features.feature["image/encoded"].bytes_list.value[0]
    return encoded


def _text(features: Any, key: str) -> str:
    values = features[key].bytes_list.value if key in features else ()
    return values[0].decode() if values else ""


def _label(features: Any, place: str) -> int:
    if "image/encoded" not in features or "image/class/label" not in features:
        raise NoImages(f"{place} has no image/encoded or no image/class/label: not the layout of slim's shards")
    (label,) = features["image/class/label"].int64_list.value
    if not 1 <= label <= IMAGENET_CLASSES:
        raise NoImages(f"{place} has the label {label}; slim's are 1 to {IMAGENET_CLASSES}, the class index plus one")
    synset = _text(features, "image/class/synset")
    if synset and class_indices().get(synset) != label - 1:
        raise NoImages(f"{place} has the label {label} and the synset {synset}, which is {class_indices().get(synset)}")
    return int(label) - 1
