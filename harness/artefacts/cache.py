"""A cache of files that are made from a model, such as exports and plans, and reused while they provably match it.

This module holds the cache folder, the key and the integrity check. The code that makes an artefact states what the
artefact depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import models
from harness.files import whole_folder
from models.build import state_sha256

Key = Mapping[str, Any]

_MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_MODELS = Path(models.__file__).resolve().parent


class CacheError(OSError):
    """The cache's folder cannot be used; the message says what to do."""


NO_HOME = "this user has no home folder for the cache: give --cache-dir DIR, or set XDG_CACHE_HOME or HOME"


@dataclass(frozen=True)
class Artefact:
    """Files that the cache made or found.

    Attributes:
        folder: the folder that holds the files, under the names that their maker gave them.
        state: `made`, `cached`, or `rebuilt: ` followed by the reason.
        seconds: the time that making or checking the files took.
    """

    folder: Path
    state: str
    seconds: float


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the default cache folder: `$XDG_CACHE_HOME/visionmark`, else `~/.cache/visionmark`.

    For a user without a home, as many containers have, the folder stays `~/.cache/visionmark`, which is refused
    once something is to be kept there.

    Source: XDG Base Directory Specification; a value that is not an absolute path is ignored.
    """
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    try:
        caches = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        caches = Path("~/.cache")
    return caches / "visionmark"


def key_of(
    kind: str, module: torch.nn.Module, *, libraries: Iterable[str], sources: Iterable[str | Path], **parts: Any
) -> Key:
    """Return the cache key: everything that decides the content of an artefact that is made from this module.

    Two artefacts that differ in any part have different keys. What the module computes is decided by its structure, its
    weights, and the code of its layers, which is that of an installed library, whose version enters the key, or a file.

    Args:
        kind: the kind of artefact, such as `onnx`.
        module: the module that the artefact is made from; its structure and all weight values enter the key.
        libraries: packages whose versions affect the result; torch and those of the layers are always included.
        sources: source files of the code that makes the artefact, so that files from older code are not reused.
        parts: all other dependencies, such as model, precision, batch or calibration; must be JSON-serialisable.
    """
    layers, own_sources = code_of(module)
    return {
        "kind": kind,
        "weights_sha256": state_sha256(module),
        "structure_sha256": hashlib.sha256(str(module).encode()).hexdigest(),
        "libraries": {name: _version(name) for name in sorted({"torch", *layers, *libraries})},
        "sources_sha256": hashes_of(sources),
        "module_sources_sha256": hashes_of(own_sources),
        **parts,
    }


def instructions() -> str:
    """Return which instructions torch's kernels use here. The last bits of a forward pass depend on them."""
    found = re.search(r"CPU capability usage: (\S+)", torch.__config__.show())
    return found[1] if found else "unknown"


def hashes_of(sources: Iterable[str | Path]) -> dict[str, str]:
    """Return the sha256 of each source file, by folder and name."""
    return {f"{source.parent.name}/{source.name}": _sha256(source) for source in sorted(map(Path, sources))}


def code_of(module: torch.nn.Module) -> tuple[set[str], list[Path]]:
    """Return where the code of a module's layers is: the installed libraries, and the source files of all others.

    A layer of this project may call any function of its models, so that all of their files count.
    """
    libraries: set[str] = set()
    sources: set[Path] = set()
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    for code in {base for layer in module.modules() for base in type(layer).__mro__}:
        try:
            source = Path(inspect.getsourcefile(code) or "").resolve()
        except (OSError, TypeError):  # built in, made at run time, or typed into an interpreter
            continue
        library = code.__module__.partition(".")[0]
        if any(folder in source.parents for folder in installed) and _version(library):
            libraries.add(library)
        elif _MODELS in source.parents:
            sources.update(_MODELS.rglob("*.py"))
        elif source.is_file():
            sources.add(source)
    return libraries, sorted(sources)


def sources_of(file: str) -> list[Path]:
    """Return the source files of the package that `file` belongs to, which artefacts made by that package depend on."""
    return sorted(Path(file).parent.rglob("*.py"))


class ArtefactCache:
    """A folder of artefacts, in which each artefact has a folder of its own that is named by the sha256 of its key.

    Several processes may use the cache at once: a lock on each key makes later processes wait for the first. An
    artefact appears complete or not at all. All its files are hashed before it is returned; an artefact that is
    damaged, or was made for another key, is made again.
    """

    def __init__(self, folder: Path) -> None:
        """Use this folder, which is created only when the first artefact is made."""
        self.folder = folder

    def obtain(self, key: Key, make: Callable[[Path], None]) -> Artefact:
        """Return the artefact of this key, and make it first if the cache holds no valid one.

        Args:
            key: the key, from `key_of`.
            make: writes the files into the empty folder that it is given; called while the key is locked.

        Raises:
            CacheError: the folder cannot be written.
        """
        began = perf_counter()
        text = json.dumps(key, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        place = self.folder / digest
        with self._locked(digest):
            damage = _damage(place, json.loads(text)) if place.exists() else None
            if place.exists() and damage is None:
                return Artefact(place, "cached", perf_counter() - began)
            for left_over in self.folder.glob(f"{digest}.*.part"):  # from a killed run: we hold the lock
                shutil.rmtree(left_over)
            with whole_folder(place) as part:
                make(part)
                hashes = {str(path.relative_to(part)): _sha256(path) for path in _files(part)}
                (part / _MANIFEST).write_text(
                    json.dumps({"key": json.loads(text), "files": hashes}, indent=1), encoding="utf-8"
                )
        return Artefact(place, f"rebuilt: {damage}" if damage else "made", perf_counter() - began)

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        """Hold an exclusive lock on this key. The operating system releases it however the process ends."""
        if self.folder.parts[:1] == ("~",):
            raise CacheError(NO_HOME)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / f"{digest}.lock").open("w", encoding="utf-8")
        except OSError as error:
            raise CacheError(
                f"artefacts cannot be kept in {self.folder} ({error.strerror}); give --cache-dir DIR (or "
                f"VISIONMARK_CACHE_DIR), a folder that can be written"
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _damage(place: Path, key: Key) -> str | None:
    """Return why the folder does not hold a valid artefact of this key, or None if it does."""
    try:
        manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "its manifest cannot be read"
    if not isinstance(manifest, dict) or manifest.get("key") != key:
        return "it was made for something else"
    kept = manifest.get("files")
    found = {str(path.relative_to(place)): path for path in _files(place)}
    if not isinstance(kept, dict) or set(found) != set(kept):
        return "files are missing or were added"
    changed = [name for name, path in found.items() if _sha256(path) != kept[name]]
    return f"{', '.join(changed)} changed since" if changed else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / _MANIFEST)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
