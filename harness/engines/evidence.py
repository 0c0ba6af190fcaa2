"""Evidence of what actually ran in one profiled step, taken from the execution and not from the request."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

# So many kernels of a dtype are named in a record: their names are long.
_NAMED_KERNELS = 5


@dataclass(frozen=True)
class MatrixWork:
    """The convolutions and matrix products of one step.

    Attributes:
        share_pct: the percentage of their time for each dtype, largest first; the dtype is `unknown` where neither
            operator nor kernel names its format.
        count_by_dtype: the number of operators or kernels for each dtype.
        clock: what the times were measured on: "operator" (host) or "kernel" (device).
        kernels: the names of a device's kernels for each dtype, those that took longest first.
    """

    share_pct: dict[str, float]
    count_by_dtype: dict[str, int]
    clock: str
    kernels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of convolutions and matrix products."""
        return sum(self.count_by_dtype.values())

    def notes(self) -> dict[str, Any]:
        """Return what a record says beside the shares: for each dtype the kernels that took longest, by name."""
        if not self.kernels:
            return {}
        return {"kernels_by_format": {dtype: list(names[:_NAMED_KERNELS]) for dtype, names in self.kernels.items()}}


@dataclass(frozen=True)
class Quantisation:
    """The outcome of quantising a model to int8.

    Attributes:
        operators: the number of convolutions and matrix products that ran in int8.
        float_layers: the names, as the engine gives them, of the convolutions and matrix products that did not.
        calibration: source, number, seed and sha256 of the images from which the ranges were taken.
    """

    operators: int
    float_layers: tuple[str, ...]
    calibration: dict[str, Any]


@dataclass(frozen=True)
class LayerTime:
    """The time of one operator, node, layer or kernel of a profiled step.

    Attributes:
        name: the name, as the engine's profile has it.
        operator: what it does, as the profile has it, such as `Convolution` or `aten::native_batch_norm`.
        time_us: the time in microseconds, of all calls together.
        is_matrix_work: whether it is a convolution or a matrix product.
        calls: how often it ran.
    """

    name: str
    operator: str
    time_us: float
    is_matrix_work: bool
    calls: int = 1


@dataclass(frozen=True)
class Evidence:
    """What one profiled step after warm-up showed.

    Attributes:
        engine: what executed the step: the name of an engine in the register, or a description of something else.
        dtype_share_pct: the percentage of the time in convolutions and matrix products for each dtype.
        matrix_ops: the number of convolution and matrix-product operators or kernels.
        clock: what those times were measured on: `operator` (host) or `kernel` (device).
        parameter_devices: the number of parameters on each device; other engines than torch's count nodes or layers.
        parameter_dtypes: the number of parameters of each dtype.
        short_formats: each switch that lets fp32 be computed in a shorter format, and whether it is on.
        fpmath_mode: the environment's setting for whether oneDNN may shorten fp32; None where there is no setting.
        memory_format: the layout of the convolution weights.
        threads: the number of intra-op and inter-op threads.
        graphs: the number of captured graphs, None for an engine without graphs.
        graph_breaks: the number of graph breaks, None for an engine without graphs.
        fallbacks: the number of nodes that ran on another provider than requested, by `operator on provider`.
        quantisation: the outcome of quantising to int8, None for the other precisions.
        notes: further findings that are specific to the engine.
        denials: in what the engine itself found that the label is not what ran.
        layers: where the time of the step went; empty where the engine has no times. Not part of `as_dict`.
        busy_us: how long anything of `layers` ran, in microseconds; None where the engine has no times.
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
    denials: tuple[str, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    busy_us: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the evidence as the JSON record holds it.

        The key `tf32`, which is older than `short_formats`, holds only the switches for TF32. The times of the layers
        are left out: there are hundreds, and what bounds a row is told from them.
        """
        is_tf32 = {name: on for name, on in self.short_formats.items() if not name.startswith("onednn")}
        kept = asdict(replace(self, layers=()))
        del kept["layers"], kept["busy_us"]
        return {**kept, "tf32": is_tf32}


def shares(time_us: Counter[str]) -> dict[str, float]:
    """Convert times to shares in percent, largest first."""
    total = sum(time_us.values())
    return {dtype: round(100 * us / total, 2) for dtype, us in time_us.most_common()} if total else {}
