"""What bounds a row: how much of the machine's own peak it reaches, and what it waits for.

It knows records, evidence and kept peaks, and measures nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.cases import PRECISIONS
from harness.engines import Evidence
from harness.measure.peaks.kept import MOST_WAIT_PCT, Peak, Peaks
from models.work import Uncounted, Work

COMPUTE, MEMORY, LAUNCH, COPY = "compute", "memory", "launch", "copy"
# Of the name of an operator or kernel a sentence has so many characters; the record has it whole.
_NAME_WIDTH = 60
MOST_SHARE_PCT = 100.0
COSTLIEST = 10
_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int8": 1}
# The measurements whose rows have a bound, each with the time of one batch that it gives.
KINDS = ("latency", "throughput", "generated", "end_to_end")


@dataclass(frozen=True)
class Bounds:
    """What bounds a row.

    Attributes:
        tflops: 10^12 operations of its convolutions and products a second; None without a time, or without a count.
        share_of_peak_pct: the same in percent of the peak that was measured on this device, with these threads, in the
            format of the row; None without such a peak, or where the row exceeds it.
        intensity: operations for each byte of weights, inputs and outputs of the convolutions and products.
        bound: `compute`, `memory`, `launch` or `copy`; None where it cannot be told.
        details: the numbers behind these, and `why` in words.
    """

    tflops: float | None
    share_of_peak_pct: float | None
    intensity: float | None
    bound: str | None
    details: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """Return the fields as a record has them, with the details under `bounds`."""
        return {
            "tflops": self.tflops,
            "share_of_peak_pct": self.share_of_peak_pct,
            "intensity": self.intensity,
            "bound": self.bound,
            "bounds": self.details,
        }


def batch_seconds(kind: str, record: Mapping[str, Any], images: int) -> float | None:
    """Return the seconds of one batch of a measurement, or None where the sample supports no such number.

    Args:
        kind: the kind of the measurement.
        record: its fields.
        images: the images of one batch.
    """
    if kind in ("latency", "generated"):
        p50_ms = record["p50_ms"]
        return None if p50_ms is None else p50_ms / 1e3
    if kind in ("throughput", "end_to_end"):
        rate = record["images_per_second"]
        return None if not rate else images / rate
    return None


def bounds_of(
    work: Work | Uncounted,
    evidence: Evidence,
    precision: str,
    batch_s: float | None,
    model_s: float | None,
    peaks: Peaks | None,
    waited_pct: float = 0.0,
) -> Bounds:
    """Return what bounds a row.

    Args:
        work: what one batch computes and moves.
        evidence: what a profiled step showed.
        precision: the row's precision.
        batch_s: the seconds of one batch, None where there is no such number.
        model_s: the seconds of one batch in the model alone, for a row whose clock encloses more; None for the others.
        peaks: the peaks of this device with these threads, None without any.
        waited_pct: for how much of the row's time a thread waited for a core. What a step waits for is then not its
            own.
    """
    if isinstance(work, Uncounted):
        return Bounds(None, None, None, None, {"why": f"its operations cannot be counted: {work.reason}"})
    size = _BYTES[PRECISIONS[precision].work]
    moved = work.elements * size
    intensity = work.flops / moved
    details: dict[str, Any] = {"flops": work.flops, "bytes": moved, "weight_bytes": work.weight_elements * size}
    if batch_s is None:
        return Bounds(None, None, intensity, None, {**details, "why": "too few rounds for the time of a batch"})
    tflops = work.flops / batch_s / 1e12
    times = _times(evidence, model_s or batch_s)
    details |= times
    peak, why_no_peak = _peak_of(peaks, precision)
    share: float | None = None
    if peak is not None:
        details["peak"] = _described(peak)
        share = 100 * tflops / peak.tflops
        if share > MOST_SHARE_PCT:
            details["over_peak_pct"] = share
            share = None
    roof = None if peaks is None or peak is None else _roof(work, size, peak, peaks, batch_s)
    details |= roof or {}
    bound, why = _bound(batch_s, model_s, times, roof, why_no_peak)
    if bound == LAUNCH and waited_pct > MOST_WAIT_PCT:
        bound, why = None, f"the machine was shared: a thread waited for a core for {waited_pct:.0f}% of the time"
    return Bounds(tflops, share, intensity, bound, {**details, "why": why})


def costliest_layers(evidence: Evidence, count: int = COSTLIEST) -> list[dict[str, Any]]:
    """Return the layers of a profiled step that took longest, with their share of the time in which anything ran."""
    busy_us = evidence.busy_us or sum(layer.time_us for layer in evidence.layers)
    found = sorted(evidence.layers, key=lambda layer: -layer.time_us)[:count]
    return [
        {
            "name": layer.name,
            "operator": layer.operator,
            "calls": layer.calls,
            "time_ms": layer.time_us / 1e3,
            "pct": 100 * layer.time_us / busy_us if busy_us else None,
            "is_matrix_work": layer.is_matrix_work,
        }
        for layer in found
    ]


def _times(evidence: Evidence, step_s: float) -> dict[str, Any]:
    """Return where the time of a step goes: nothing ran, convolutions and products, all else, and what most of that."""
    if evidence.busy_us is None or not evidence.layers:
        return {}
    if evidence.matrix_ops and not any(layer.is_matrix_work for layer in evidence.layers):
        return {}  # compiled code, as of `aot` on a CPU, calls its library without telling the profiler
    total_us = sum(layer.time_us for layer in evidence.layers)
    spent_pct: dict[str, float] = defaultdict(float)
    for layer in evidence.layers:
        if not layer.is_matrix_work:
            spent_pct[layer.operator] += 100 * layer.time_us / total_us
    most = max(spent_pct, key=lambda name: spent_pct[name], default=None)
    return {
        "idle_pct": max(0.0, 100 * (1 - evidence.busy_us / 1e6 / step_s)),
        "outside_pct": sum(spent_pct.values()),
        "outside_most": most,
        "outside_most_pct": None if most is None else spent_pct[most],
    }


def _peak_of(peaks: Peaks | None, precision: str) -> tuple[Peak | None, str]:
    """Return the peak of a precision's format, or None and why there is none that counts."""
    kind = PRECISIONS[precision].work
    if peaks is None:
        return None, "no peaks of this device with these threads are kept: `visionmark peaks` measures them"
    if kind not in peaks.peaks:
        return None, f"no peak of {kind} is kept: `visionmark peaks --precision {precision}` measures it"
    peak = peaks.peaks[kind]
    denial = peak.denial() or (None if peak.format == kind else f"the peak of {kind} is one of {peak.format}")
    return (None, f"{denial}: `visionmark peaks --again` measures it anew") if denial else (peak, "")


def _described(peak: Peak) -> dict[str, Any]:
    kept = ("format", "tflops", "spread_pct", "rounds", "warmup_steady", "engine", "probe")
    return {**{name: getattr(peak, name) for name in kept}, "dtype_share_pct": peak.evidence["dtype_share_pct"]}


def _roof(work: Work, size: int, peak: Peak, peaks: Peaks, batch_s: float) -> dict[str, Any] | None:
    """Return the least times that the peaks allow, layer by layer: each takes as long as its operations or its bytes.

    Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", 2009.
    """
    copied = peaks.copy_of(work.working_elements * size)
    if copied is None:
        return None
    rates = peak.tflops * 1e12, copied.gb_per_second * 1e9
    compute_s = memory_s = 0.0
    for layer in work.layers:
        at_peak_s, at_copy_s = layer.flops / rates[0], layer.elements * size / rates[1]
        if at_peak_s >= at_copy_s:
            compute_s += at_peak_s
        else:
            memory_s += at_copy_s
    roof_pct = 100 * (compute_s + memory_s) / batch_s
    return {
        "compute_ms": 1e3 * compute_s,
        "memory_ms": 1e3 * memory_s,
        "batch_ms": 1e3 * batch_s,
        "roof_pct": roof_pct if roof_pct <= MOST_SHARE_PCT else None,
        "copy_gb_per_second": copied.gb_per_second,
        "copy_footprint_mib": copied.footprint_mib,
        "balance": rates[0] / rates[1],
    }


def _bound(
    batch_s: float, model_s: float | None, times: Mapping[str, Any], roof: Mapping[str, Any] | None, why_no_peak: str
) -> tuple[str | None, str]:
    """Return the bound and the reason for it, in words."""
    if model_s is not None and batch_s >= 2 * model_s:
        return COPY, f"the model alone takes {100 * model_s / batch_s:.0f}% of it"
    if times:
        outside_pct = (100 - times["idle_pct"]) * times["outside_pct"] / 100
        matrix_pct = 100 - times["idle_pct"] - outside_pct
        if times["idle_pct"] > max(outside_pct, matrix_pct):
            return LAUNCH, f"nothing ran for {times['idle_pct']:.0f}% of a step"
        if outside_pct > matrix_pct:
            return MEMORY, (
                f"{outside_pct:.0f}% of a step is outside convolutions and products, most of it in "
                f"{shortened(times['outside_most'], _NAME_WIDTH)}, and {times['idle_pct']:.0f}% of it nothing ran"
            )
    if roof is None:
        return None, why_no_peak or "no rate of copying is kept: `visionmark peaks --again` measures it"
    is_compute = roof["compute_ms"] >= roof["memory_ms"]
    least = (
        f"at the peaks, layers that operations limit take {roof['compute_ms']:.3g} ms and those that bytes limit "
        f"{roof['memory_ms']:.3g} ms"
    )
    share = "more than it took, for caches gave some" if roof["roof_pct"] is None else f"{roof['roof_pct']:.0f}% of it"
    return COMPUTE if is_compute else MEMORY, f"{least}, {share}"


def shortened(name: str, width: int) -> str:
    """Return at most so many characters of a name: that of a CUDA kernel has hundreds, with its template arguments."""
    return name if len(name) <= width else f"{name[: width - 1]}…"
