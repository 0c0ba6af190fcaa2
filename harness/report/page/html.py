"""Puts the page together: its HTML, its style, the plotting library, its data and its program, in one text."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# In this order: a later one uses what an earlier one defines.
PROGRAM = (
    *("data.js", "cells.js", "charts.js", "columns.js", "tables.js"),
    *("rounds.js", "comparisons.js", "pictures.js", "runs.js", "front.js", "page.js"),
)
# The largest integer that JavaScript's numbers hold with all those below it.
_MOST_INTEGER = 2**53


def page_html(data: Mapping[str, Any]) -> str:
    """Return the page as one text of HTML that needs nothing else.

    Args:
        data: what `gathered` returned.
    """
    parts = {
        "title": html.escape(" and ".join(file["name"] for file in data["files"])),
        "style": _text("page.css"),
        "library": library(),
        "data": embedded(data),
        "program": "\n".join(_text(name) for name in PROGRAM),
    }
    # in one pass, so that what is put in is not looked at again
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("page.html"))


def embedded(data: Mapping[str, Any]) -> str:
    """Return data as JSON that may stand inside a script element.

    No `<` is left, so that no text in it can end the element. What JavaScript's JSON does not have (NaN, infinities,
    integers that it would round) becomes text.
    """
    text = json.dumps(_plain(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def library() -> str:
    """Return the JavaScript of Bokeh with its interface for programs, as the Python package carries it."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh", "bokeh-api"], log_level="error").js_raw)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MOST_INTEGER:
        return str(value)
    return value


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
