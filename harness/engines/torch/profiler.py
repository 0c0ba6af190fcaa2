"""What torch.profiler tells of one step: which operators and kernels ran, in which format and for how long."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from harness.engines.evidence import MatrixWork, shares

Event = dict[str, Any]

# Inductor names its pointwise kernels after what they follow: triton_poi_fused_convolution_relu_3 adds a bias.
_POINTWISE = re.compile(r"^triton_(?!tem_)")
_MATRIX_OP = re.compile(r"conv(?!ert)|addmm|\bmm\b|bmm|linear|matmul|gemm|dot_product|baddbmm")
_PACKED = ("mkldnn::", "mkl::", "onednn::")
_DTYPES = {
    "float": "fp32",
    "double": "fp64",
    "c10::BFloat16": "bf16",
    "c10::Half": "fp16",
    "unsigned char": "int8",
    "signed char": "int8",
    "char": "int8",
}
# Kernels that CUDA graphs replay carry no operator; cuDNN, cuBLAS, CUTLASS and torch name the format in the kernel.
# Order matters: a TF32 kernel also says f32.
_KERNEL_MATRIX = re.compile(
    r"gemm|conv|fprop|wgrad|cutlass|xmma|nvjet|[sh]cudnn|winograd|cudnn.*(engine|kernel)|dot_kernel|gemv|splitk|matmul",
    re.I,
)
# What cuDNN runs beside a convolution: no matrix work, and no format in the name.
_KERNEL_HELPER = re.compile(r"computeOffsets|nchwToNhwc|nhwcToNchw|bn_fw", re.I)
_KERNEL_DTYPES = (
    ("tf32", re.compile(r"tf32", re.I)),
    ("bf16", re.compile(r"bf16|bfloat16|nvjet_(?:sm\d+a?_)?t", re.I)),
    ("fp16", re.compile(r"f16(?!c)|half|hgemm|hcudnn|nvjet_(?:sm\d+a?_)?h|h884|h1688|h16816", re.I)),
    ("tf32", re.compile(r"s1688(gemm|fprop)", re.I)),  # the only format of that instruction that is left
    ("int8", re.compile(r"i8816|s8|int8|imma", re.I)),
    ("fp32", re.compile(r"sgemm|scudnn|float|f32|ffma", re.I)),
)


def profile_step(step: Callable[[], None], activity: str | None) -> list[Event]:
    """The complete events of one call of `step`, which has to synchronise before it returns.

    Args:
        step: what to run.
        activity: member of `ProfilerActivity` for the device's kernels, or None for the host alone.

    Source: the Chrome trace that torch.profiler exports; `args["Input type"]` names the dtypes of each operator.
    """
    activities = [ProfilerActivity.CPU] + ([getattr(ProfilerActivity, activity)] if activity else [])
    with profile(activities=activities, record_shapes=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[Event] = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def matrix_work(events: list[Event]) -> MatrixWork:
    """Time a dtype in convolutions and matrix products.

    Where operators on the host are nested the innermost one counts: autocast's outer `aten::conv2d` still shows fp32
    weights. Where the trace has device kernels their time counts: a kernel takes the format from its own name if
    that says TF32, else from the operator that launched it, else from its name.
    """
    innermost = innermost_matrix_ops(events)
    kernels = [event for event in events if event.get("cat") == "kernel"]
    time_us: Counter[str] = Counter()
    count: Counter[str] = Counter()
    if not kernels:
        for op in innermost:
            time_us[_op_dtype(op)] += op["dur"]
            count[_op_dtype(op)] += 1
        return MatrixWork(shares(time_us), dict(count), "operator")
    dtype_of = _dtype_by_launch(events, innermost)
    for kernel in kernels:
        launched_as = dtype_of.get(kernel.get("args", {}).get("External id"))
        if launched_as is None and not _is_matrix_kernel(kernel["name"]):
            continue
        named = kernel_dtype(kernel["name"])
        dtype = named if named == "tf32" or launched_as is None else launched_as
        count[dtype] += 1
        time_us[dtype] += kernel["dur"]
    return MatrixWork(shares(time_us), dict(count), "kernel")


def _is_matrix_kernel(name: str) -> bool:
    return bool(_KERNEL_MATRIX.search(name)) and not _POINTWISE.match(name) and not _KERNEL_HELPER.search(name)


def kernel_dtype(name: str) -> str:
    """The format that a CUDA kernel's name gives, or `unknown`."""
    return next((dtype for dtype, pattern in _KERNEL_DTYPES if pattern.search(name)), "unknown")


def ran_inductor(events: list[Event]) -> bool:
    """Whether code that inductor generated ran: it marks each call of a compiled graph."""
    return any("CompiledFxGraph" in event["name"] for event in events)


def packed_operators(events: list[Event]) -> int:
    """How many convolutions and matrix products took their weight as oneDNN laid it out beforehand.

    Inductor lays a weight out only if it is a constant of the graph, which freezing makes it.
    """
    return sum(op["name"].startswith(_PACKED) for op in innermost_matrix_ops(events))


def ran_dynamo(events: list[Event]) -> bool:
    """Whether a region that dynamo captured ran, by whatever backend."""
    return any("Torch-Compiled Region" in event["name"] for event in events)


def _op_dtype(op: Event) -> str:
    types = op.get("args", {}).get("Input type", [])
    known = [_DTYPES[name] for name in types if name in _DTYPES]
    return known[0] if known else "unknown"


def innermost_matrix_ops(events: list[Event]) -> list[Event]:
    """The convolutions and matrix products on the host: where operators are nested, the innermost one."""
    host = [event for event in events if event.get("cat") == "cpu_op"]
    ops = [op for op in host if _MATRIX_OP.search(op["name"]) and not _POINTWISE.match(op["name"])]
    ops.sort(key=lambda e: (e["tid"], e["ts"], -e["dur"]))
    inner: list[Event] = []
    for this, following in zip_longest(ops, ops[1:]):
        encloses = (
            following is not None and following["tid"] == this["tid"] and following["ts"] < this["ts"] + this["dur"]
        )
        if not encloses:
            inner.append(this)
    return inner


def _dtype_by_launch(events: list[Event], innermost: list[Event]) -> dict[int, str]:
    """External id of every operator inside an innermost matrix operator, to that operator's dtype."""
    spans = sorted((op["tid"], op["ts"], op["ts"] + op["dur"], _op_dtype(op)) for op in innermost)
    found: dict[int, str] = {}
    host = sorted((e for e in events if e.get("cat") == "cpu_op"), key=lambda e: (e["tid"], e["ts"]))
    at = 0
    for event in host:
        while at < len(spans) and (spans[at][0], spans[at][2]) <= (event["tid"], event["ts"]):
            at += 1
        if at < len(spans):
            tid, start, end, dtype = spans[at]
            if event["tid"] == tid and start <= event["ts"] < end and "External id" in event.get("args", {}):
                found[event["args"]["External id"]] = dtype
    return found


def memory_format(module: torch.nn.Module) -> str:
    """`channels_last` if every convolution weight that can tell is so laid out, else `contiguous` or `mixed`."""
    seen = {
        weight.is_contiguous(memory_format=torch.channels_last)
        for weight in module.parameters()
        if weight.dim() == 4 and weight.shape[1] > 1 and weight.shape[2] * weight.shape[3] > 1
    }
    if len(seen) == 2:
        return "mixed"
    return "channels_last" if True in seen else "contiguous"
