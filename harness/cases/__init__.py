"""Owns the case and its id, the precisions, and how long to measure. Must not know what runs a case."""

from harness.cases.case import Case, Grid
from harness.cases.data_mode import DATA_MODES, GENERATED_MODE, REAL_MODE, SYNTHETIC_MODE, mode_of_kind
from harness.cases.duration import Duration, wants_more
from harness.cases.precision import GENERATED, PRECISIONS, Precision
from harness.cases.setting import HALF_PARTIALS, U8, WHOLE

__all__ = [
    "DATA_MODES",
    "GENERATED",
    "GENERATED_MODE",
    "HALF_PARTIALS",
    "PRECISIONS",
    "REAL_MODE",
    "SYNTHETIC_MODE",
    "U8",
    "WHOLE",
    "Case",
    "Duration",
    "Grid",
    "Precision",
    "mode_of_kind",
    "wants_more",
]
