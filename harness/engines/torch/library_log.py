"""Reading the verbose logs of oneDNN and MKL, which list what was executed, in which format and for how long."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from harness.engines.evidence import MatrixWork, shares

_MATRIX_PRIMITIVES = {"convolution", "deconvolution", "inner_product", "matmul"}
_DTYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "s8": "int8"}
_SOURCE = re.compile(r"(?:^| )src:(\w+):")
STDOUT = 1


@dataclass(frozen=True)
class Primitive:
    """One execution of a convolution or matrix product.

    Attributes:
        dtype: the format of its input, as in the table of precisions; `unknown` where the log does not say.
        kernel: the implementation, such as `brgconv_1x1:avx512_core_bf16`.
        time_us: the execution time in microseconds.
    """

    dtype: str
    kernel: str
    time_us: float


def executed_primitives(step: Callable[[], None]) -> list[Primitive]:
    """Return the convolutions and matrix products that oneDNN executed during one call of `step`."""
    return parse_log(_logged(step, torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)))


def executed_by_libraries(step: Callable[[], None]) -> list[Primitive]:
    """Return the convolutions and matrix products that oneDNN and MKL executed during one call of `step`."""
    asked: list[Any] = [torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON)]
    if torch.backends.mkl.is_available():
        asked.append(torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON))
    text = _logged(step, *asked)
    return parse_log(text) + parse_mkl_log(text)


def _logged(step: Callable[[], None], *asked: AbstractContextManager[Any]) -> str:
    """Return what the libraries log during one call of `step`.

    They log to the standard output of the process, so the file descriptor is redirected during the step.

    Args:
        step: the function to call.
        asked: contexts in which the libraries log.
    """
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    before = os.dup(STDOUT)
    try:
        with tempfile.TemporaryFile() as caught:
            os.dup2(caught.fileno(), STDOUT)
            try:
                with ExitStack() as stack:
                    for one in asked:
                        stack.enter_context(one)
                    step()
            finally:
                libc.fflush(None)
                os.dup2(before, STDOUT)
            caught.seek(0)
            return caught.read().decode(errors="replace")
    finally:
        os.close(before)


def parse_log(text: str) -> list[Primitive]:
    """Return the executed convolutions and matrix products in a log, in order.

    Source: oneDNN developer guide, "Verbose Mode":
    `onednn_verbose,v1,primitive,exec,cpu,convolution,KERNEL,PROPAGATION,FORMATS,ATTRIBUTES,AUXILIARY,PROBLEM,MS`.
    """
    found = []
    for line in text.splitlines():
        parts = line.split(",")
        if parts[0] != "onednn_verbose" or "exec" not in parts:
            continue
        kind, kernel, formats = (parts[parts.index("exec") + offset] for offset in (2, 3, 5))
        if kind in _MATRIX_PRIMITIVES:
            source = _SOURCE.search(formats)
            dtype = _DTYPES.get(source[1], "unknown") if source else "unknown"
            found.append(Primitive(dtype, kernel, 1e3 * float(parts[-1])))
    return found


# The routines of MKL's log that multiply matrices, with the format that the name begins with.
_MKL_PRODUCT = re.compile(r"^MKL_VERBOSE (\w*GEM[MV]\w*)\(.*?\) ([\d.]+)(ns|us|ms|s)\b", re.MULTILINE)
_MKL_DTYPES = (("GEMM_BF16", "bf16"), ("GEMM_F16", "fp16"), ("GEMM_S8", "int8"), ("HGEM", "fp16"), ("SGEM", "fp32"))
_IN_US = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}


def parse_mkl_log(text: str) -> list[Primitive]:
    """Return the matrix products in MKL's log, in order; packing a matrix beforehand is none.

    Source: Intel oneMKL developer guide, "Using MKL_VERBOSE": `MKL_VERBOSE SGEMM(ARGUMENTS) TIME CNR:...`.
    """
    found = []
    for name, time, unit in _MKL_PRODUCT.findall(text):
        if "PACK" not in name:
            dtype = next(
                (dtype for begin, dtype in _MKL_DTYPES if name.removeprefix("CBLAS_").startswith(begin)), "unknown"
            )
            found.append(Primitive(dtype, name.lower(), float(time) * _IN_US[unit]))
    return found


def work_of(primitives: list[Primitive]) -> MatrixWork:
    """Return the time and number of executed primitives for each format."""
    time_ns: Counter[str] = Counter()
    for one in primitives:
        time_ns[one.dtype] += round(1e3 * one.time_us)
    return MatrixWork(shares(time_ns), dict(Counter(one.dtype for one in primitives)), "operator")
