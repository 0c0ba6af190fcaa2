"""The identity of a kept result: a digest of what it was measured as, by which it may stand for another measurement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def digest_of(asked: Sequence[Any], environment: Mapping[str, Any]) -> str:
    """Return a hexadecimal digest of what was asked for and of the versions and devices that it was measured with.

    Args:
        asked: whatever changes what a number means, in a form that JSON or `str` tells apart.
        environment: the result of `describe_environment`.
    """
    same = {key: environment[key] for key in ("libraries", "variables", "fpmath_mode")}
    # the governor changes by the minute, and a record says which there was
    same["devices"] = {
        name: {key: value for key, value in device.items() if key != "governor"}
        for name, device in environment["devices"].items()
    }
    text = json.dumps([*asked, same], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
