"""Reading torch.profiler's trace of one step: which operators and kernels ran, in which format and for how long."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from harness.engines.evidence import MatrixWork, shares
from harness.engines.torch.kernels import (
    POINTWISE,
    UNKNOWN,
    is_matrix_kernel,
    kernel_dtype,
    takes_its_operands_format,
)

Event = dict[str, Any]

# Resizing an image is no matrix product, though aten::upsample_bilinear2d has "linear" in its name, and neither is
# bringing a weight into another layout.
_MATRIX_OP = re.compile(
    r"^(?!.*(?:upsample|interpolate|reorder)).*"
    r"(?:conv(?!ert)|addmm|(?<![a-z])mm\b|bmm|(?<!bi)(?<!tri)linear|matmul|gemm|dot_product|baddbmm)"
)
_SHORT = ("tf32", "bf16", "fp16")
_SIXTEEN_BITS = ("bf16", "fp16")
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


def profile_step(step: Callable[[], None], activity: str | None) -> list[Event]:
    """Profile one call of `step` and return its complete events (phase `X` of the trace).

    Args:
        step: the function to run; it has to synchronise before it returns.
        activity: the name of the `ProfilerActivity` for the device's kernels, or None for the host alone.

    Source: the Chrome trace that torch.profiler exports; `args["Input type"]` names the dtypes of each operator.
    """
    activities = [ProfilerActivity.CPU] + ([getattr(ProfilerActivity, activity)] if activity else [])
    with warnings.catch_warnings():
        # it is started for one step, and keeps the events of that
        warnings.filterwarnings("ignore", "Warning: Profiler clears events", UserWarning)
        with profile(activities=activities, record_shapes=True) as profiler:
            step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[Event] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def matrix_work(events: list[Event], operands: str | None = None) -> MatrixWork:
    """Return the time and number of convolutions and matrix products for each dtype.

    Args:
        events: the events of a profiled step, as `profile_step` returns them.
        operands: the format of the operands of every convolution and product, where something other than torch
            launched the kernels and tells it; None where they differ, or nothing tells it.

    Of nested operators on the host only the innermost one counts, because autocast's outer `aten::conv2d` still shows
    fp32 weights. If the trace has device kernels, their time counts instead. The format of a kernel is that of the
    operator that launched it, unless its name says otherwise of a convolution or product: that it computes an fp32
    operator in a shorter format, or a 16-bit one in fp32, as cuDNN's Fourier transforms do. A kernel without an
    operator has the format in its name.
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
    dtype_of = dtype_by_launch(events, innermost)
    by_name_us: dict[str, Counter[str]] = defaultdict(Counter)
    for kernel in kernels:
        launched_as = dtype_of.get(kernel.get("args", {}).get("External id"))
        if launched_as is None and not is_matrix_kernel(kernel["name"]):
            continue
        dtype = _format(launched_as, kernel["name"])
        if dtype == UNKNOWN and operands is not None and takes_its_operands_format(kernel["name"]):
            dtype = operands
        count[dtype] += 1
        time_us[dtype] += kernel["dur"]
        by_name_us[dtype][kernel["name"]] += kernel["dur"]
    named = {dtype: tuple(name for name, _ in by_name_us[dtype].most_common()) for dtype, _ in time_us.most_common()}
    return MatrixWork(shares(time_us), dict(count), "kernel", named)


def _format(launched_as: str | None, name: str) -> str:
    """Return the format of a kernel: its operator's, unless it shortens an fp32 operator, or widens a 16-bit one."""
    named = kernel_dtype(name)
    if launched_as in (None, UNKNOWN) or (launched_as == "fp32" and named in _SHORT):
        return named
    if launched_as in _SIXTEEN_BITS and named == "fp32" and is_matrix_kernel(name):
        return named
    return str(launched_as)


def ran_inductor(events: list[Event]) -> bool:
    """Return whether code that inductor generated ran. Inductor marks each call of a compiled graph."""
    return any("CompiledFxGraph" in event["name"] for event in events)


def packed_operators(events: list[Event]) -> int:
    """Return the number of convolutions and matrix products whose weight was packed for oneDNN beforehand.

    Inductor packs a weight only if it is a constant of the graph, so packed weights show that parameters are frozen.
    """
    return sum(op["name"].startswith(_PACKED) for op in innermost_matrix_ops(events))


def ran_dynamo(events: list[Event]) -> bool:
    """Return whether a region that dynamo captured ran, with any backend."""
    return any("Torch-Compiled Region" in event["name"] for event in events)


def _op_dtype(op: Event) -> str:
    types = op.get("args", {}).get("Input type", [])
    known = [_DTYPES[name] for name in types if name in _DTYPES]
    return known[0] if known else UNKNOWN


def innermost_matrix_ops(events: list[Event]) -> list[Event]:
    """Return the convolutions and matrix products on the host; of nested ones only the innermost."""
    host = [event for event in events if event.get("cat") == "cpu_op"]
    ops = [op for op in host if _MATRIX_OP.search(op["name"]) and not POINTWISE.match(op["name"])]
    ops.sort(key=lambda e: (e["tid"], e["ts"], -e["dur"]))
    inner: list[Event] = []
    for this, following in zip_longest(ops, ops[1:]):
        encloses = (
            following is not None and following["tid"] == this["tid"] and following["ts"] < this["ts"] + this["dur"]
        )
        if not encloses:
            inner.append(this)
    return inner


def dtype_by_launch(events: list[Event], innermost: list[Event]) -> dict[int, str]:
    """Map the external id of each operator inside an innermost matrix operator to the dtype of the matrix operator."""
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
    """Return the layout of the convolution weights: `channels_last`, `contiguous` or `mixed`.

    Weights with one input channel or a 1x1 kernel are ignored, because both layouts are the same for them.
    """
    seen = {
        weight.is_contiguous(memory_format=torch.channels_last)
        for weight in module.parameters()
        if weight.dim() == 4 and weight.shape[1] > 1 and weight.shape[2] * weight.shape[3] > 1
    }
    if len(seen) == 2:
        return "mixed"
    return "channels_last" if True in seen else "contiguous"
