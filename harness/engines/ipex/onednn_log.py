"""Reading oneDNN's verbose log, which lists each executed primitive with its formats, its kernel and its time."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import torch

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
    """Return the convolutions and matrix products that oneDNN executed during one call of `step`.

    oneDNN logs to the standard output of the process, so the file descriptor is redirected during the step.
    """
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    before = os.dup(STDOUT)
    try:
        with tempfile.TemporaryFile() as caught:
            os.dup2(caught.fileno(), STDOUT)
            try:
                with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                    step()
            finally:
                libc.fflush(None)
                os.dup2(before, STDOUT)
            caught.seek(0)
            return parse_log(caught.read().decode(errors="replace"))
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
