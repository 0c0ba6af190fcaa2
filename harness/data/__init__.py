"""Owns data sets: every form in which labelled images are kept, read as one list. Must not know engines or devices.

`open_data_set` takes what a user names: a folder, the two archives as downloaded, TF-record shards, a URL, or one of
timm's readers. In each form an image keeps its bytes, its name and its class index among the 1,000 of ILSVRC2012, or
the objects that COCO's annotations mark in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.data import readers, remote
from harness.data.coco import folders as coco_folders
from harness.data.coco import shards as coco_shards
from harness.data.coco.objects import MarkedObject, Objects
from harness.data.coco.val2017 import is_val2017
from harness.data.decoding import DECODER, decode, split_readable
from harness.data.imagenet import archives, folders, shards
from harness.data.imagenet.ilsvrc2012 import is_validation_set
from harness.data.imagenet.labelling import label_by_number, label_by_table
from harness.data.imagenet.labels import IMAGENET_CLASSES, class_indices, class_names
from harness.data.imagenet.splits import evaluation_root
from harness.data.images import DataSet, ImageFile, NoImages, UnreadableImage, write_generated_jpegs
from harness.data.sampling import images_sha256, sample_images

__all__ = [
    "DECODER",
    "IMAGENET_CLASSES",
    "DataSet",
    "ImageFile",
    "MarkedObject",
    "NoImages",
    "Objects",
    "UnreadableImage",
    "class_indices",
    "class_names",
    "decode",
    "images_sha256",
    "open_data_set",
    "sample_images",
    "split_readable",
    "write_generated_jpegs",
]


def open_data_set(
    name: str,
    cache: Path,
    report: Callable[[str], None] = lambda text: None,
    labels: Path | None = None,
    *,
    is_numbered: bool = False,
    skips_absent: bool = False,
) -> DataSet:
    """Return the images that a user names, with their classes or their objects.

    Args:
        name: a folder, a URL that fsspec opens, or `hfds/…`, `wds/…`, `tfds/…` as timm names its readers.
        cache: the folder for what has to be fetched or unpacked once.
        report: called with a text before each step that takes long, and with what is left out.
        labels: a CSV of the classes, for images whose folders do not name them; see `label_by_table`. A JSON file is of
            the objects in the images of the folder; see `read_pair`.
        is_numbered: whether the folders are named by class indices, from 0 to 999; of a reader that does not name its
            classes, whether its labels are those indices.
        skips_absent: whether images that are annotated and not there are left out and reported.

    Raises:
        NoImages: if nothing usable is there; the message names what is wrong.
    """
    if readers.is_reader(name):
        images, route = readers.read(name, cache, report, is_numbered=is_numbered), name.partition("/")[0]
    else:
        folder = remote.fetch(name, cache, report) if remote.is_url(name) else _expanded(name)
        scheme = f"{name.partition(':')[0]}, " if remote.is_url(name) else ""
        annotated = _annotated(folder, report, labels, skips_absent)
        if annotated is not None:
            images, objects, route = annotated
            return DataSet(name, scheme + route, tuple(images), is_val2017(images, objects), objects)
        images, route = _local(folder, report)
        route = scheme + route
    if labels is not None:
        images = label_by_table(images, labels)
    elif is_numbered and not readers.is_reader(name):
        images = label_by_number(images)
    return DataSet(name, route, tuple(images), is_validation_set(images))


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except RuntimeError as error:  # `~` of a user without a home, or that is not there
        raise NoImages(f"{error}; write the whole path") from error


def _annotated(
    folder: Path, report: Callable[[str], None], labels: Path | None, skips_absent: bool
) -> tuple[list[ImageFile], Objects, str] | None:
    """Return the images with the objects in them and the form in which they lie there, or None if none are marked."""
    if labels is not None and labels.suffix == ".json":
        return *coco_folders.read_pair(folder, labels, report, skips_absent=skips_absent), "coco"
    if coco_shards.is_record(folder):
        return *coco_shards.read([folder], report), "coco tfrecord"
    if labels is not None or not folder.is_dir() or archives.has_archives(folder):
        return None
    if pair := coco_folders.find_pair(folder):
        return *coco_folders.read_pair(*pair, report, skips_absent=skips_absent), "coco"
    if paths := coco_shards.find_shards(folder):
        return *coco_shards.read(paths, report), "coco tfrecord"
    return None


def _local(folder: Path, report: Callable[[str], None]) -> tuple[list[ImageFile], str]:
    if not folder.is_dir():
        raise NoImages(f"no folder {folder}")
    if archives.has_archives(folder) and not (folder / "val").is_dir():
        archives.extract(folder, report)
        return folders.find_images(folder / "val", report), "archives"
    if paths := shards.find_shards(folder) or shards.find_shards(evaluation_root(folder)):
        return shards.read(paths, report), "tfrecord"
    return folders.find_images(folder, report), "folder"
