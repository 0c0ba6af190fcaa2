"""Measuring the peaks of a device: the fastest of several probes on several engines, each proven to run in its format.

The engines, the evidence and the contradictions are those of every case, so that a peak of int8 is proven like a row of
int8.
"""

from __future__ import annotations

import gc
import hashlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from harness.artefacts import ArtefactCache, Artefacts, Calibration
from harness.cases import GENERATED, PRECISIONS, Case
from harness.devices import Device
from harness.engines import InspectedRunner, build, import_libraries, unsupported
from harness.host.cores import give_back_cores
from harness.host.pressure import read_waiting, shares_of
from harness.measure.peaks.kept import CopyRate, Peak, Peaks, identity_of
from harness.measure.peaks.probes import DEPTH, LADDERS, Probe, climbing
from harness.progress import ReportPhase, no_report
from harness.proof.contradictions import contradictions
from harness.proof.warmup import is_steady, warm_up

# The engines that are asked for a peak unless others are named: those that build in a second or two.
ENGINES = ("eager", "openvino", "onnxruntime", "tensorrt")
LEAST_ROUNDS, LEAST_S = 9, 0.4
LONGEST_ROUND_S = 0.4
# A round of copies on a device takes this long at least.
_LEAST_COPYING_S = 1e-3
CALIBRATION_IMAGES = 8
# The memory of both tensors of a copy, in MiB: what fits into a cache, and what does not.
FOOTPRINTS_MIB = (4, 16, 64, 256, 1024)

Clock = Callable[[], float]


@dataclass(frozen=True)
class Refused:
    """A probe that counts for nothing, for this reason."""

    reason: str


@dataclass(frozen=True)
class Rounds:
    """The rounds of a probe or a copy, in seconds."""

    times_s: tuple[float, ...]

    @property
    def fastest_s(self) -> float:
        """The fastest round, which is the machine's own: everything that disturbs a round makes it longer."""
        return min(self.times_s)

    @property
    def median_s(self) -> float:
        """The median round."""
        return statistics.median(self.times_s)

    @property
    def spread_pct(self) -> float:
        """By how many percent the round at three quarters is slower than the fastest."""
        later = sorted(self.times_s)[3 * len(self.times_s) // 4]
        return 100 * (later / self.fastest_s - 1)


def measure_peaks(
    device: Device,
    precisions: Iterable[str],
    engines: Sequence[str] = ENGINES,
    before: Peaks | None = None,
    report: ReportPhase = no_report,
    ladders: Sequence[tuple[Probe, ...]] = LADDERS,
    footprints_mib: Sequence[int] = FOOTPRINTS_MIB,
) -> Peaks:
    """Measure the peak of the format of each precision, and the rates of copying.

    What the machine or no engine can do has no peak; `tried` has the reasons. What stands in `before` is kept where
    nothing faster is found, because a peak is the highest rate that was reached.

    Args:
        device: the device, which is present.
        precisions: the precisions whose formats are asked for.
        engines: the engines that are tried.
        before: what is known of the same device already.
        report: called with a description of each step.
        ladders: the probes, each ladder from small to large.
        footprints_mib: the memory of both tensors of a copy, in MiB, from small to large.
    """
    known = before or Peaks(identity_of(device))
    peaks, tried = dict(known.peaks), list(known.tried)
    # before any engine, whose threads may stay beside those that copy
    copies = known.copies if known.has_copies else tuple(measure_copies(device, footprints_mib, report))
    with tempfile.TemporaryDirectory(prefix="visionmark-peaks-") as folder:
        for precision in precisions:
            for engine in engines:
                for found in _climb(device, precision, engine, Path(folder), ladders, report):
                    tried.append(found)
                    peak: Peak | None = found.pop("peak", None)
                    if peak is not None and _is_higher(peak, peaks.get(peak.format)):
                        peaks[peak.format] = peak
    return replace(known, peaks=peaks, copies=copies, tried=tuple(tried))


def _is_higher(peak: Peak, other: Peak | None) -> bool:
    """Return whether a peak takes the place of another: one that is denied never does of one that is not."""
    if other is None or (peak.denial() is None) != (other.denial() is None):
        return other is None or peak.denial() is None
    return peak.tflops > other.tflops


def _climb(
    device: Device,
    precision: str,
    engine: str,
    folder: Path,
    ladders: Sequence[tuple[Probe, ...]],
    report: ReportPhase,
) -> Iterator[dict[str, Any]]:
    """Run every ladder on one engine, and give what each probe came to; its peak, if it is one, under `peak`."""
    about = {"precision": precision, "engine": engine}
    if reason := unsupported(Case("peak", device.name, precision, 1, engine), device):
        yield {**about, "probe": None, "tflops": None, "reason": reason}
        return
    for ladder in ladders:
        rate_of: dict[Probe, float] = {}
        for probe in climbing(ladder, LONGEST_ROUND_S, rate_of):
            report(f"{precision} on {engine}: {probe}")
            found = measure_probe(device, precision, engine, probe, folder)
            if isinstance(found, Refused):
                yield {**about, "probe": str(probe), "tflops": None, "reason": found.reason}
                break  # a larger one would be refused for the same reason
            rate_of[probe] = found.tflops * 1e12
            yield {**about, "probe": str(probe), "tflops": found.tflops, "reason": None, "peak": found}


def measure_probe(
    device: Device, precision: str, engine: str, probe: Probe, folder: Path, clock: Clock = perf_counter
) -> Peak | Refused:
    """Run one probe on one engine, warm and proven, and return its rate, or the reason why it counts for nothing.

    Args:
        device: the device.
        precision: the precision, whose format the evidence has to show.
        engine: the engine.
        probe: what is run.
        folder: where exports and quantised files of the probe are kept for the while.
        clock: gives seconds.
    """
    case = Case("peak", device.name, precision, probe.batch, engine)
    example = probe.images(probe.batch)
    artefacts = Artefacts(ArtefactCache(folder), lambda: _calibration(probe))
    give_back_cores()  # the engine before may have bound this thread to a core
    with device.settings(precision):
        import_libraries(engine, precision)
        try:
            runner = build(probe.module(), example, case, device, artefacts)
        except (RuntimeError, MemoryError) as error:  # the device has no room for it, or the library no kernel
            device.release()
            return Refused(f"it could not be built: {str(error).strip().partition(chr(10))[0]}")
        with _closed_after(runner, device):
            batch = runner.put(example)
            warm_s = warm_up(runner, [batch])
            before = read_waiting()
            rounds = _timed(lambda: runner.submit(batch), runner.synchronize, clock)
            waited = shares_of(before, read_waiting()) if device.is_host else {}
            evidence = runner.evidence(batch)
            denials = contradictions(case, device, evidence)
    if evidence.matrix_ops < DEPTH:
        denials.append(f"{evidence.matrix_ops} convolutions or products ran, not {DEPTH}")
    if denials:
        return Refused("; ".join(denials))
    return Peak(
        format=PRECISIONS[precision].work,
        tflops=probe.flops / rounds.fastest_s / 1e12,
        median_tflops=probe.flops / rounds.median_s / 1e12,
        spread_pct=rounds.spread_pct,
        rounds=len(rounds.times_s),
        warmup_rounds=len(warm_s),
        warmup_steady=is_steady(warm_s),
        engine=engine,
        probe=str(probe),
        evidence=evidence.as_dict(),
        **waited,
    )


def measure_copies(
    device: Device,
    footprints_mib: Sequence[int] = FOOTPRINTS_MIB,
    report: ReportPhase = no_report,
    clock: Clock = perf_counter,
) -> Iterator[CopyRate]:
    """Copy a tensor to another within the device's memory, of several sizes, and give the rate of each.

    A copy reads and writes each of its bytes, so that both tensors together are what is moved.
    """
    for footprint_mib in footprints_mib:
        report(f"copying, {footprint_mib} MiB in use")
        yield _copy_rate(device, footprint_mib, clock)


def _copy_rate(device: Device, footprint_mib: int, clock: Clock) -> CopyRate:
    source = device.put(torch.ones(footprint_mib * 2**20 // 8, dtype=torch.float32))
    target = torch.empty_like(source)
    # touches the memory, which is no rate of copying
    once = _timed(lambda: target.copy_(source), device.synchronize, clock)
    # a device is told of several copies before one wait: of a single short one, the telling is most of the time
    copies = 1 if device.is_host else math.ceil(_LEAST_COPYING_S / once.fastest_s)

    def submit() -> None:
        for _ in range(copies):
            target.copy_(source)

    before = read_waiting()
    rounds = _timed(submit, device.synchronize, clock)
    waited = shares_of(before, read_waiting()) if device.is_host else {}
    moved = 2 * source.nbytes * copies
    device.release()
    return CopyRate(
        footprint_mib=footprint_mib,
        gb_per_second=moved / rounds.fastest_s / 1e9,
        median_gb_per_second=moved / rounds.median_s / 1e9,
        rounds=len(rounds.times_s),
        **waited,
    )


def _timed(submit: Callable[[], Any], synchronize: Callable[[], None], clock: Clock) -> Rounds:
    times_s: list[float] = []
    while len(times_s) < LEAST_ROUNDS or sum(times_s) < LEAST_S:
        began = clock()
        submit()
        synchronize()
        times_s.append(clock() - began)
    return Rounds(tuple(times_s))


@contextmanager
def _closed_after(runner: InspectedRunner, device: Device) -> Iterator[None]:
    try:
        yield
    finally:
        runner.close()
        gc.collect()
        device.release()


def _calibration(probe: Probe) -> Calibration:
    digest = hashlib.sha256(str(asdict(probe)).encode()).hexdigest()
    return Calibration(GENERATED, CALIBRATION_IMAGES, 0, digest, lambda: probe.images(CALIBRATION_IMAGES))
