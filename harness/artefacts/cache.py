"""Files that were made once from a model and are used again, for as long as they are provably of that model.

Here are the folder, the key and the check. Whoever makes an artefact says what it depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from harness.files import whole_folder
from models.build import state_sha256

Key = Mapping[str, Any]

_MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class CacheError(OSError):
    """The cache's folder cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Artefact:
    """Files that were made or found.

    Attributes:
        folder: holds them, under the names that their maker gave.
        state: `made`, `cached`, or `rebuilt` and why.
        seconds: what making or checking them took.
    """

    folder: Path
    state: str
    seconds: float


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where artefacts are kept by default: `$XDG_CACHE_HOME/visionmark`, else `~/.cache/visionmark`.

    Source: XDG Base Directory Specification; a value that is no absolute path does not count.
    """
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "visionmark"


def key_of(
    kind: str, module: torch.nn.Module, *, libraries: Iterable[str], sources: Iterable[str | Path], **parts: Any
) -> Key:
    """Everything that decides what an artefact of this module holds. Two that differ in anything have two keys.

    Args:
        kind: what is made, such as `onnx`.
        module: what it is made from: its structure and every value of its weights count.
        libraries: packages that take part in the making; torch always does.
        sources: files of the code that makes it, so that what older code made is not used.
        parts: the rest: model, precision, batch, calibration …, JSON-able.
    """
    return {
        "kind": kind,
        "weights_sha256": state_sha256(module),
        "structure_sha256": hashlib.sha256(str(module).encode()).hexdigest(),
        "libraries": {name: _version(name) for name in sorted({"torch", *libraries})},
        "sources_sha256": {
            f"{source.parent.name}/{source.name}": _sha256(source) for source in sorted(map(Path, sources))
        },
        **parts,
    }


def sources_of(file: str) -> list[Path]:
    """The source files of a module's package: what an artefact that its code makes depends on."""
    return sorted(Path(file).parent.glob("*.py"))


class ArtefactCache:
    """A folder of artefacts, one folder each, named by the sha256 of its key.

    Several processes may use it at once: who comes second waits for the first. An artefact appears whole or not at
    all, and every file of it is hashed before it is handed out: one that is damaged, or was made for another key, is
    made again.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is created before something is made."""
        self.folder = folder

    def obtain(self, key: Key, make: Callable[[Path], None]) -> Artefact:
        """The artefact of that key, made if there is no sound one.

        Args:
            key: see `key_of`.
            make: writes its files into the empty folder that it is given; called under a lock.

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
            for left_over in self.folder.glob(f"{digest}.*.part"):  # of a run that was killed: the lock is ours
                shutil.rmtree(left_over)
            with whole_folder(place) as part:
                make(part)
                hashes = {str(path.relative_to(part)): _sha256(path) for path in _files(part)}
                (part / _MANIFEST).write_text(json.dumps({"key": json.loads(text), "files": hashes}, indent=1))
        return Artefact(place, f"rebuilt: {damage}" if damage else "made", perf_counter() - began)

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        """Alone with this key. The lock goes with the process that holds it, however that ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / f"{digest}.lock").open("w")
        except OSError as error:
            raise CacheError(
                f"artefacts cannot be kept in {self.folder} ({error.strerror}); give --cache-dir DIR (or "
                f"VISIONMARK_CACHE_DIR), a folder that can be written"
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _damage(place: Path, key: Key) -> str | None:
    """Why what is kept there is not the artefact of that key, None if it is."""
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
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
