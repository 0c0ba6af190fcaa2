"""Owns files that are made once and used again, and images to calibrate on. Must not know engines or data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.artefacts.cache import Artefact, ArtefactCache, CacheError, Key, default_folder, key_of, sources_of
from harness.artefacts.calibration import Calibration, generated_calibration
from harness.progress import ReportPhase, no_report
from models.catalog import ModelSpec

__all__ = [
    "Artefact",
    "ArtefactCache",
    "Artefacts",
    "CacheError",
    "Calibration",
    "Key",
    "default_artefacts",
    "default_folder",
    "generated_calibration",
    "key_of",
    "sources_of",
]


@dataclass(frozen=True)
class Artefacts:
    """What an engine is handed beside the module.

    Attributes:
        cache: where artefacts are kept.
        calibration: gives the calibration when it is first needed, which only int8 does.
        report: told what is being made, for a progress line.
    """

    cache: ArtefactCache
    calibration: Callable[[], Calibration]
    report: ReportPhase = no_report


def default_artefacts(spec: ModelSpec) -> Artefacts:
    """The user's cache, and generated images to calibrate on."""
    return Artefacts(ArtefactCache(default_folder()), lambda: generated_calibration(spec))
