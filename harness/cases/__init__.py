"""Owns the case and its id, the precisions, and how long to measure. Must not know what runs a case."""

from harness.cases.case import Case, Grid
from harness.cases.duration import Duration, wants_more
from harness.cases.precision import GENERATED, PRECISIONS, Precision

__all__ = ["GENERATED", "PRECISIONS", "Case", "Duration", "Grid", "Precision", "wants_more"]
