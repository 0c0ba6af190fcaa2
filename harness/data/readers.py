"""Reads data sets through timm's readers `hfds/NAME` (Hugging Face), `wds/FOLDER` (webdataset) and `tfds/NAME`.

`tfds` stands for TensorFlow Datasets. `NAME#SPLIT` chooses a split; `validation` is the default. A reader that can be
indexed is read where its images lie. A reader that can only be run through is unpacked once into the cache, without
loss, so that a sample can be drawn from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from harness.data.imagenet.labels import IMAGENET_CLASSES, class_indices, class_names
from harness.data.images import ImageFile, NoImages
from harness.data.kept import kept_folder
from harness.files import whole_folder

_PREFIXES = ("hfds", "wds", "tfds")
_PACKAGES = {"hfds": "datasets", "wds": "webdataset", "tfds": "tensorflow-datasets tensorflow"}
_LABELS = "labels.json"


def is_reader(name: str) -> bool:
    """Return whether the name is that of one of timm's readers."""
    return name.partition("/")[0] in _PREFIXES and "/" in name


def read(name: str, cache: Path, report: Callable[[str], None], *, is_numbered: bool = False) -> list[ImageFile]:
    """Return the images of one of timm's readers.

    Args:
        name: the name of the reader and of the data set.
        cache: the folder for what has to be unpacked once.
        report: called with a text before each step that takes long.
        is_numbered: whether labels without names are the class indices of ILSVRC2012, as the user says.

    Raises:
        NoImages: if its package is not installed, if it cannot be opened, or if its classes are not the 1,000 of
            ILSVRC2012.
    """
    prefix = name.partition("/")[0]
    if prefix == "wds" and (root := _folder_of(name)) is not None and not root.is_dir():
        raise NoImages(f"{name} cannot be opened: no folder {root}")
    report(f"opening {name}")
    _open_reader.cache_clear()  # what lies there may have changed since an earlier run of this process
    try:
        reader = _open_reader(name)
    except ImportError as error:
        raise NoImages(f"{name} needs packages: pip install {_PACKAGES[prefix]} ({error})") from error
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise NoImages(f"{name} cannot be opened: {error}") from error
    if hasattr(reader, "iter_targets") and hasattr(reader, "__getitem__"):
        return _indexed(reader, name, is_numbered=is_numbered)
    return _unpacked(reader, name, cache, report)


@lru_cache(maxsize=1)
def _open_reader(name: str) -> Any:
    """Return timm's reader. A process keeps one open, because opening one takes seconds."""
    from timm.data.readers import create_reader

    prefix, _, rest = name.partition("/")
    where, _, split = rest.partition("#")
    root = {"root": str(_folder_of(name) or where)} if prefix == "wds" else {}
    return create_reader(f"{prefix}/{where}", split=split or "validation", **root)


def _folder_of(name: str) -> Path | None:
    """Return the whole path of the folder that `wds/FOLDER` names, or None if it names a URL.

    A path that begins in the present folder would be another one where a process begins elsewhere.
    """
    where = name.partition("/")[2].partition("#")[0]
    return None if "://" in where else Path(where).expanduser().resolve()


def _encoded(name: str, index: int) -> bytes:
    """Return an encoded image. It can be asked for in another process, which opens the reader for itself."""
    with _open_reader(name)[index][0] as file:
        data: bytes = file.read()
    return data


def _are_ilsvrc2012(names: Mapping[str, int]) -> bool:
    """Return whether at least half of the names of classes are those that ILSVRC2012 has at these indices."""
    known = [name.partition(" ")[2].lower() for name in class_names()]
    own = {index: name.partition(",")[0].strip().replace("_", " ").lower() for name, index in names.items()}
    return 2 * sum(own.get(index) == name for index, name in enumerate(known)) >= len(known)


def _indexed(reader: Any, name: str, *, is_numbered: bool) -> list[ImageFile]:
    names: Mapping[str, int] = reader.class_to_idx or {}
    known = class_indices()
    if names and set(names) <= known.keys():
        index_of = {index: known[wnid] for wnid, index in names.items()}
    elif (not names and is_numbered) or (len(names) == IMAGENET_CLASSES and _are_ilsvrc2012(names)):
        index_of = {index: index for index in range(IMAGENET_CLASSES)}
    elif not names:
        raise NoImages(
            f"{name} does not say what its classes are: add --class-folders index if its labels are the indices of "
            f"ILSVRC2012's"
        )
    else:
        raise NoImages(f"{name} has {len(names)} classes, which are neither wnids nor the 1,000 of ILSVRC2012")

    def label(target: int) -> int:
        if target not in index_of:
            raise NoImages(f"{name} has the label {target}, which is outside 0 to {IMAGENET_CLASSES - 1}")
        return index_of[target]

    images = []
    for index, target in enumerate(reader.iter_targets()):
        stored = reader.filename(index, basename=True) or f"{index:08d}"
        images.append(ImageFile(Path(name), label(int(target)), Path(stored).name, partial(_encoded, name, index)))
    if not images:
        raise NoImages(f"{name} has no images")
    return images


def _unpacked(reader: Any, name: str, cache: Path, report: Callable[[str], None]) -> list[ImageFile]:
    root = Path(str(getattr(reader, "root", None) or ""))
    place = kept_folder(cache, name, *([str(root)] if root.is_absolute() else []), *_state_of(root))
    if not place.is_dir():
        with whole_folder(place) as part:
            labels = {}
            for index, (image, target) in enumerate(reader):
                if not index % 1000:
                    report(f"unpacking {name} to {place}, once: {index} images")
                if not 0 <= int(target) < IMAGENET_CLASSES:
                    raise NoImages(f"{name}: image {index} has the label {target}, outside 0 to {IMAGENET_CLASSES - 1}")
                file = f"{index:08d}.png"
                image.convert("RGB").save(part / file, compress_level=1)
                labels[file] = int(target)
            promised = len(reader)
            if promised and promised != len(labels):
                # webdataset's reader leaves out a broken sample with no more than a log line
                raise NoImages(f"{name} promises {promised} images and gave {len(labels)}: some of them are damaged")
            if not labels:
                raise NoImages(f"{name} gave no images")
            (part / _LABELS).write_text(json.dumps(labels), encoding="utf-8")
    stored: dict[str, int] = json.loads((place / _LABELS).read_text(encoding="utf-8"))
    return [ImageFile(place / file, label) for file, label in stored.items()]


def _state_of(root: Path) -> list[str]:
    """Return what lies in a local folder, so that images that were unpacked from other files are not used."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_absolute() and root.is_dir() else []
    return [f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
