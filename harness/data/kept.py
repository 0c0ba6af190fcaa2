"""Names the folders for data sets that are fetched or unpacked once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def kept_folder(cache: Path, *identity: str) -> Path:
    """Return the folder for the data set that these words identify. The folder need not exist yet."""
    return cache / "data" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
