"""Evidence: what really ran, and where it contradicts the label.

Owns the record and the comparison. Engines fill the record in from what they executed, never from what was asked.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.case import Case
from harness.devices import Device
from harness.precision import PRECISIONS

# Below this share of convolution and matrix time in the promised format the label is not true. The rest is room
# for a first layer or a classifier that an engine may keep in fp32, which the record shows.
LEAST_SHARE_PCT = 90.0
# TF32 is used by the kernels that have it: depthwise convolutions, most of the time of a mobile net, have not.
LEAST_TF32_SHARE_PCT = 1.0
# Work still running after `synchronize` returned, as a share of the step.
MOST_PENDING_PCT = 20.0


class Contradiction(AssertionError):
    """The evidence says that a row is not what its label says, or does not suffice to say that it is."""


@dataclass(frozen=True)
class Quantisation:
    """What a calibrated precision came to.

    Attributes:
        operators: convolutions and matrix products that ran in int8.
        float_layers: those that did not, as the engine names them.
        calibration: the images that ranges were taken from: source, number, seed, sha256.
    """

    operators: int
    float_layers: tuple[str, ...]
    calibration: dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What one profiled step after warm-up showed.

    Attributes:
        engine: what executed the step: a name of the engine table, or words for something else.
        dtype_share_pct: dtype to share of convolution and matrix-product time, in percent.
        matrix_ops: how many of those operators or kernels there were.
        clock: whose time the share is of: `operator` or `kernel`.
        parameter_devices: device type and index to number of parameters there.
        parameter_dtypes: dtype to number of parameters.
        tf32: switch to state.
        fpmath_mode: oneDNN's leave to shorten fp32, from the environment; None where it has none.
        memory_format: layout of the convolution weights.
        threads: intra-op and inter-op threads.
        graphs: graphs that were captured, None for an engine without.
        graph_breaks: breaks in capturing them, likewise.
        fallbacks: `operator on provider` to number of nodes that ran elsewhere than the engine was told to.
        quantisation: of int8, None for the other precisions.
        notes: anything that only this engine can tell.
    """

    engine: str
    dtype_share_pct: dict[str, float]
    matrix_ops: int
    clock: str
    parameter_devices: dict[str, int]
    parameter_dtypes: dict[str, int]
    tf32: dict[str, bool]
    fpmath_mode: str | None
    memory_format: str
    threads: dict[str, int]
    graphs: int | None = None
    graph_breaks: int | None = None
    fallbacks: dict[str, int] = field(default_factory=dict)
    quantisation: Quantisation | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as it goes into the JSON."""
        return asdict(self)


def contradictions(case: Case, device: Device, evidence: Evidence) -> list[str]:
    """Every point in which the evidence denies the label, each naming both; empty if the label is proven.

    Args:
        case: the label.
        device: where it should have run.
        evidence: what ran.
    """
    return [
        *_engine_contradictions(case, evidence),
        *_dtype_contradictions(case, evidence),
        *_quantisation_contradictions(case, evidence),
        *_placement_contradictions(device, evidence),
    ]


def _engine_contradictions(case: Case, evidence: Evidence) -> list[str]:
    found = []
    if evidence.engine != case.engine:
        found.append(f"label says engine {case.engine}, but {evidence.engine} ran")
    if evidence.graph_breaks:
        found.append(f"label says engine {case.engine}, but {evidence.graph_breaks} graph breaks ran eager in between")
    return found


def _dtype_contradictions(case: Case, evidence: Evidence) -> list[str]:
    promised = PRECISIONS[case.precision]
    if not evidence.matrix_ops:
        return [f"label says {case.precision}, but the profile shows no convolution or matrix product at all"]
    share = evidence.dtype_share_pct.get(promised.work, 0.0)
    least = LEAST_TF32_SHARE_PCT if promised.tf32 else LEAST_SHARE_PCT
    found = []
    if share < least:
        ran = ", ".join(f"{pct:.1f}% {dtype}" for dtype, pct in evidence.dtype_share_pct.items())
        found.append(
            f"label says {case.precision}, but convolution and matrix time was {ran} "
            f"({promised.work} needs at least {least:.0f}%)"
        )
    if not promised.tf32:
        on = [switch for switch, state in evidence.tf32.items() if state]
        if on:
            found.append(f"label says {case.precision}, but TF32 is on for {', '.join(on)}")
    if promised.work == "fp32" and (evidence.fpmath_mode or "STRICT").upper() not in ("STRICT", "F32"):
        found.append(
            f"label says {case.precision}, but the environment lets oneDNN shorten fp32 "
            f"(fpmath mode {evidence.fpmath_mode}); unset ONEDNN_DEFAULT_FPMATH_MODE"
        )
    return found


def _quantisation_contradictions(case: Case, evidence: Evidence) -> list[str]:
    if not PRECISIONS[case.precision].calibrated:
        return []
    if evidence.quantisation is None:
        return [f"label says {case.precision}, but nothing tells what was quantised, or calibrated on which images"]
    if not evidence.quantisation.operators:
        return [f"label says {case.precision}, but the quantiser quantised nothing: no operator ran in int8"]
    return []


def _placement_contradictions(device: Device, evidence: Evidence) -> list[str]:
    found = []
    elsewhere = {place: count for place, count in evidence.parameter_devices.items() if place != device.torch_name}
    if elsewhere:
        listed = ", ".join(f"{count} on {place}" for place, count in elsewhere.items())
        found.append(f"label says device {device.torch_name}, but parameters lie elsewhere: {listed}")
    if evidence.fallbacks:
        listed = ", ".join(f"{name} ({count})" for name, count in evidence.fallbacks.items())
        found.append(f"label says device {device.torch_name}, but nodes fell back to another provider: {listed}")
    if device.profiler_activity and evidence.clock != "kernel":
        found.append(
            f"label says device {device.torch_name}, but the profile shows no kernel of it: "
            f"nothing ran there, or profiling it is not permitted"
        )
    return found


def fpmath_mode() -> str | None:
    """OneDNN's process-wide leave to compute fp32 in a shorter format, as the environment gives it.

    Source: oneDNN developer guide, "Primitive attributes: floating-point math mode".
    """
    return os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE") or os.environ.get("DNNL_DEFAULT_FPMATH_MODE")
