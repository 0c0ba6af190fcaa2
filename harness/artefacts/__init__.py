"""Owns files that are made once and reused, and the images for calibration. Must not know engines or data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.artefacts.cache import (
    Artefact,
    ArtefactCache,
    CacheError,
    Key,
    default_folder,
    hashes_of,
    instructions,
    key_of,
    sources_of,
)
from harness.artefacts.calibration import Calibration, generated_calibration
from harness.artefacts.kept_weights import KeptWeights
from harness.progress import ReportPhase, no_report
from models.catalog import ModelSpec

__all__ = [
    "Artefact",
    "ArtefactCache",
    "Artefacts",
    "CacheError",
    "Calibration",
    "KeptWeights",
    "Key",
    "default_artefacts",
    "default_folder",
    "generated_calibration",
    "hashes_of",
    "instructions",
    "key_of",
    "sources_of",
]


@dataclass(frozen=True)
class Artefacts:
    """What an engine is given in addition to the module.

    Attributes:
        cache: the cache in which artefacts are kept.
        calibration: returns the calibration images; called only when they are needed, which is for int8.
        report: called with a description of what is being made, for a progress line.
        report_dir: a folder for what a vendor's profiler tells of the model, None for no such report.
    """

    cache: ArtefactCache
    calibration: Callable[[], Calibration]
    report: ReportPhase = no_report
    report_dir: Path | None = None


def default_artefacts(spec: ModelSpec) -> Artefacts:
    """Return the user's default cache together with generated calibration images."""
    return Artefacts(ArtefactCache(default_folder()), lambda: generated_calibration(spec))
