"""Evidence: what really ran in one profiled step, taken from what was executed and not from what was asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class MatrixWork:
    """Convolutions and matrix products of one step.

    Attributes:
        share_pct: dtype label to its share of their time, in percent, largest first; `unknown` where neither
            operator nor kernel names its format.
        count_by_dtype: how many there were of each.
        clock: whose time it is: "operator" (host) or "kernel" (device).
    """

    share_pct: dict[str, float]
    count_by_dtype: dict[str, int]
    clock: str

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.count_by_dtype.values())


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
        short_formats: each switch that lets fp32 be computed in a shorter format, and whether it is on.
        fpmath_mode: the environment's word on whether oneDNN may shorten fp32; None where it says nothing.
        memory_format: layout of the convolution weights.
        threads: intra-op and inter-op threads.
        graphs: graphs that were captured, None for an engine without.
        graph_breaks: breaks in capturing them, None for an engine without graphs.
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
    short_formats: dict[str, bool]
    fpmath_mode: str | None
    memory_format: str
    threads: dict[str, int]
    graphs: int | None = None
    graph_breaks: int | None = None
    fallbacks: dict[str, int] = field(default_factory=dict)
    quantisation: Quantisation | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as it goes into the JSON. `tf32` holds the switches of TF32 alone, under their first name."""
        is_tf32 = {name: on for name, on in self.short_formats.items() if not name.startswith("onednn")}
        return {**asdict(self), "tf32": is_tf32}


def shares(time_us: Counter[str]) -> dict[str, float]:
    """Times as shares in percent, largest first."""
    total = sum(time_us.values())
    return {dtype: round(100 * us / total, 2) for dtype, us in time_us.most_common()} if total else {}
