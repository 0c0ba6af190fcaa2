"""Names the folders for data sets that are fetched or unpacked once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.data.images import NoImages


def kept_folder(cache: Path, *identity: str) -> Path:
    """Return the folder for the data set that these words identify. The folder need not exist yet.

    Raises:
        NoImages: if the cache is that of a user without a home.
    """
    if cache.parts[:1] == ("~",):
        raise NoImages("this user has no home folder to keep it: give --cache-dir DIR, or set XDG_CACHE_HOME or HOME")
    return cache / "data" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
