"""Folders that are fetched or unpacked once: where they are kept, and that they appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def kept_folder(cache: Path, *identity: str) -> Path:
    """Where that which these words identify is kept; the folder may not be there yet."""
    return cache / "data" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]


@contextmanager
def whole_or_nothing(place: Path) -> Iterator[Path]:
    """An empty folder to fill: it becomes `place` when the block ends, and goes where the block raises."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # on the same file system, so that the rename is one step
    part = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield part
        part.chmod(0o755)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
