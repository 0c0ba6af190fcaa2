"""The data modes: where the input of a measurement is when its clock starts."""

from __future__ import annotations

SYNTHETIC_MODE, GENERATED_MODE, REAL_MODE = "synthetic", "generated", "real"
DATA_MODES = (SYNTHETIC_MODE, GENERATED_MODE, REAL_MODE)
# The mode of each kind of measurement that has one. Scenarios and served models take images from host memory.
_MODES = {
    **dict.fromkeys(("latency", "throughput", "streams", "versus"), SYNTHETIC_MODE),
    "generated": GENERATED_MODE,
    **dict.fromkeys(("end_to_end", "accuracy"), REAL_MODE),
}


def mode_of_kind(kind: str) -> str | None:
    """Return the data mode of a kind of measurement, None for one of which there is no such mode."""
    return _MODES.get(kind)
