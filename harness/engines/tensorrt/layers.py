"""Reading the output of TensorRT's inspector and profiler: layers with their formats, kernels and times.

The input is text and numbers, so this module does not need the library.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.engines.evidence import MatrixWork, shares
from harness.engines.torch.kernels import kernel_dtype

_MATRIX = re.compile(r"conv(?!ert)|gemm|matrixmultiply|matmul|fullyconnected|xmma_fprop", re.I)
# Layers that only move, create or convert values, whatever their name contains.
_HELPER = re.compile(r"reformat|constant|shuffle|noop|cast", re.I)
# Matches the inspector's words for the format of a tensor: "Half", "Row major linear FP16 format", "BFloat16" ...
_FORMATS = (
    ("int8", re.compile(r"int8", re.I)),
    ("fp8", re.compile(r"fp8", re.I)),
    ("bf16", re.compile(r"bf16|bfloat16", re.I)),
    ("fp16", re.compile(r"fp16|half", re.I)),
    ("fp32", re.compile(r"fp32|float", re.I)),
)


class NoDetail(ValueError):
    """The engine does not say what its layers are: it was built without detailed verbosity."""


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine.

    Attributes:
        name: the name, as the profiler reports it.
        kind: the type, as the inspector reports it.
        kernel: the name of the tactic, empty where the inspector gives none.
        dtype: the format in which the layer computes, as in the table of precisions, or `unknown`.
        is_matrix_work: whether the layer is a convolution or matrix product.
    """

    name: str
    kind: str
    kernel: str
    dtype: str
    is_matrix_work: bool


def layers_of(information: str) -> list[Layer]:
    """Return the layers in the inspector's JSON.

    Raises:
        NoDetail: the JSON gives only the names of the layers.

    Source: TensorRT developer guide, "Engine Inspector".
    """
    layers = json.loads(information)["Layers"]
    if any(not isinstance(layer, dict) for layer in layers):
        raise NoDetail("the engine's layers have names alone: it was built without ProfilingVerbosity.DETAILED")
    return [_layer(layer) for layer in layers]


def work_of(layers: list[Layer], time_ms: Mapping[str, float]) -> MatrixWork:
    """Return the convolutions and matrix products of a step.

    Args:
        layers: the layers of the engine.
        time_ms: the time of each layer in milliseconds, as the profiler reported it; a layer without time did not run.
    """
    ran = [layer for layer in layers if layer.is_matrix_work and layer.name in time_ms]
    time_us: Counter[str] = Counter()
    for layer in ran:
        time_us[layer.dtype] += round(1e3 * time_ms[layer.name])
    counts = Counter(layer.dtype for layer in ran)
    return MatrixWork(shares(time_us), dict(counts), "kernel" if time_ms else "operator")


def _layer(told: Mapping[str, Any]) -> Layer:
    kind = str(told.get("LayerType", ""))
    parameter = str(told.get("ParameterType", ""))
    kernel = str(told.get("TacticName", ""))
    is_matrix = bool(_MATRIX.search(f"{kind} {parameter} {kernel}")) and not _HELPER.search(kind)
    return Layer(str(told.get("Name", "")), kind, kernel, _dtype(told, kernel), is_matrix)


def _dtype(told: Mapping[str, Any], kernel: str) -> str:
    """Return the format in which a layer computes.

    TF32 shows only in the kernel's name. Otherwise the first source that names a format counts: the first input, the
    weights, the kernel's name.
    """
    if kernel_dtype(kernel) == "tf32":
        return "tf32"
    inputs = told.get("Inputs") or [{}]
    shown = " ".join(str(inputs[0].get(key, "")) for key in ("Format/Datatype", "Datatype", "DataType", "Format"))
    weights = told.get("Weights")
    typed = str(weights.get("Type", "")) if isinstance(weights, Mapping) else ""
    for text in (shown, typed):
        for dtype, pattern in _FORMATS:
            if pattern.search(text):
                return dtype
    return kernel_dtype(kernel)
