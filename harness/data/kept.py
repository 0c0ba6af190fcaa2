"""Where data sets are kept that are fetched or unpacked once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def kept_folder(cache: Path, *identity: str) -> Path:
    """The folder of what these words identify. It may not be there yet."""
    return cache / "data" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
