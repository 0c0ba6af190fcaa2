"""Files and folders that appear whole or not at all, and where this checkout is.

It imports nothing of visionmark, so every room may use it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
# Where results go unless a folder is named.
RESULTS = CHECKOUT / "results"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to. What is written there becomes `path` when the block ends, and is deleted where it raises.

    A reader never sees half of a file, and a write that fails leaves the file of before as it was. The folder is made.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside it, so that the rename is one step; with our process id, so that two processes do not share it
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all. See `whole_file`.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """An empty folder to fill. It becomes `place` when the block ends, and is deleted where the block raises.

    A `place` that is there already is replaced, after the new one is whole.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    # on the same file system, so that the rename is one step
    part = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield part
        part.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
