"""The peaks of a machine: their record, the identity of the machine that they are of, and the file that keeps them.

A peak is of one device, with one number of threads on the same cores, under one version of torch. Peaks of anything
else are never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.cases import PRECISIONS
from harness.devices import Device, place_of
from harness.files import write_whole
from harness.host.cores import asked_threads, current
from harness.host.environment import fpmath_mode
from harness.proof.contradictions import LEAST_SHARE_PCT, LEAST_TF32_SHARE_PCT

FOLDER = "peaks"
# The format of the file, and of how peaks are measured: those of another version are measured anew.
VERSION = 1
# What limits a GPU and is set by its administrator. Other conditions of a device are switches of a case.
_LIMITS = ("power_limit_w", "application_clock_mhz", "is_mig_enabled")
# A thread that waits for a core for a fifth of the time takes a quarter longer: what it then reaches is no peak.
MOST_WAIT_PCT = 20.0
# One precision for each number format in which there is a peak.
PRECISION_OF = {one.work: one.name for one in reversed(PRECISIONS.values()) if one.autocast is None}


@dataclass(frozen=True)
class Peak:
    """The highest rate that was reached in one format, and the evidence of the step that reached it.

    Attributes:
        format: the number format, as in `Precision.work`.
        tflops: 10^12 operations a second in the fastest round.
        median_tflops: the same in the median round.
        spread_pct: by how many percent the slowest of the middle half of the rounds was slower than the fastest.
        rounds: the number of timed rounds.
        warmup_rounds: the number of rounds before them.
        warmup_steady: whether the last of those were getting neither faster nor slower.
        engine: the engine that ran it.
        probe: what was run.
        evidence: the engine's own evidence of a profiled step, as in a record.
        runqueue_wait_pct: for how much of its rounds a thread waited for a core; None where the kernel does not tell.
        cpu_pressure_pct: the same of any process of the machine.
    """

    format: str
    tflops: float
    median_tflops: float
    spread_pct: float
    rounds: int
    warmup_rounds: int
    warmup_steady: bool
    engine: str
    probe: str
    evidence: dict[str, Any]
    runqueue_wait_pct: float | None = None
    cpu_pressure_pct: float | None = None

    def denial(self) -> str | None:
        """Return None, or what denies that this is the machine's peak in this format: what ran, or what ran beside."""
        share = self.evidence.get("dtype_share_pct", {}).get(self.format, 0.0)
        least = LEAST_TF32_SHARE_PCT if self.format == "tf32" else LEAST_SHARE_PCT
        if not self.evidence.get("matrix_ops") or share < least:
            return f"the peak of {self.format} was measured with {share:.0f}% of its time in {self.format}"
        if _waited_pct(self) > MOST_WAIT_PCT:
            return (
                f"the peak of {self.format} was measured while others had the machine: it waited for a core for "
                f"{_waited_pct(self):.0f}% of its time"
            )
        return None


@dataclass(frozen=True)
class CopyRate:
    """How fast a tensor is copied within the memory of a device.

    Attributes:
        footprint_mib: the memory that both tensors take together.
        gb_per_second: 10^9 bytes read and written a second, in the fastest round.
        median_gb_per_second: the same in the median round.
        rounds: the number of timed rounds.
        runqueue_wait_pct: for how much of its rounds a thread waited for a core; None where the kernel does not tell.
        cpu_pressure_pct: the same of any process of the machine.
    """

    footprint_mib: float
    gb_per_second: float
    median_gb_per_second: float
    rounds: int
    runqueue_wait_pct: float | None = None
    cpu_pressure_pct: float | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether others had the machine meanwhile, so that it is no rate of the machine."""
        return _waited_pct(self) > MOST_WAIT_PCT


@dataclass(frozen=True)
class Peaks:
    """What is known of a machine.

    Attributes:
        identity: the machine, the device, the threads and the versions that the numbers are of.
        peaks: the peak of each format that was measured.
        copies: the rates of copying, by footprint, the smallest first.
        tried: every probe that was run, with its rate or the reason why it counts for nothing.
    """

    identity: dict[str, Any]
    peaks: dict[str, Peak] = field(default_factory=dict)
    copies: tuple[CopyRate, ...] = ()
    tried: tuple[dict[str, Any], ...] = ()

    def copy_of(self, footprint_bytes: float) -> CopyRate | None:
        """Return the rate for so much memory in use: that of the smallest footprint which is no smaller.

        What fits into a cache is copied faster than what does not. For more than was measured it is the largest.
        """
        wanted_mib = footprint_bytes / 2**20
        known = [one for one in self.copies if not one.is_disturbed]
        large = [one for one in known if one.footprint_mib >= wanted_mib]
        return large[0] if large else known[-1] if known else None

    @property
    def has_copies(self) -> bool:
        """Whether there are rates of copying, and nothing disturbed them."""
        return bool(self.copies) and not any(one.is_disturbed for one in self.copies)

    def has(self, kind: str) -> bool:
        """Return whether there is a peak of this format that nothing denies."""
        return kind in self.peaks and self.peaks[kind].denial() is None


def _waited_pct(of: Peak | CopyRate) -> float:
    """Return what was waited for a core: by this process, or where the kernel does not tell, by any."""
    found = of.cpu_pressure_pct if of.runqueue_wait_pct is None else of.runqueue_wait_pct
    return found or 0.0


def identity_of(device: Device) -> dict[str, Any]:
    """Return what peaks of a device are of, as it is now, serialisable as JSON."""
    import torch

    conditions = device.conditions()
    here = current()
    on_host: dict[str, Any] = {"threads": asked_threads(), "cpus": list(here.cpus), "quota_cpus": here.quota_cpus}
    return {
        "version": VERSION,
        "node": platform.node(),
        "device": place_of(device),
        "description": device.describe(),
        "limits": {name: conditions[name] for name in _LIMITS if name in conditions},
        **(on_host if device.is_host else {}),
        "torch": torch.__version__,
        "fpmath_mode": fpmath_mode(),
        "max_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
    }


def digest_of(identity: dict[str, Any]) -> str:
    """Return the sha256 of an identity, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def file_of(cache_dir: Path, identity: dict[str, Any]) -> Path:
    """Return the file in which the peaks of this identity are kept, whether or not it is there."""
    return cache_dir / FOLDER / f"{digest_of(identity)}.json"


def keep_peaks(cache_dir: Path, peaks: Peaks) -> Path:
    """Write the peaks into the cache, and return the file.

    Raises:
        OSError: the file cannot be written.
    """
    path = file_of(cache_dir, peaks.identity)
    write_whole(path, json.dumps(asdict(peaks), indent=1) + "\n")
    return path


def kept_peaks(cache_dir: Path, identity: dict[str, Any]) -> Peaks | None:
    """Return the peaks of exactly this identity, or None where there are none, or none that can be read."""
    try:
        found = json.loads(file_of(cache_dir, identity).read_text(encoding="utf-8"))
        peaks = Peaks(
            found["identity"],
            {name: Peak(**one) for name, one in found["peaks"].items()},
            tuple(CopyRate(**one) for one in found["copies"]),
            tuple(found["tried"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return peaks if peaks.identity == json.loads(json.dumps(identity)) else None
