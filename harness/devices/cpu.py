"""The host processor. Work is done when a call returns."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch

_CLEAR_PEAK = "5"  # proc(5): written to clear_refs, resets VmHWM


class Cpu:
    """The CPU, one for the process: threads and affinity say how much of it."""

    torch_name = "cpu"
    name = "cpu"
    profiler_activity = None
    plain_batchnorm = False
    cuda_graphs = False
    openvino_name = "CPU"
    runs_tensorrt = False
    onnxruntime_provider = "CPUExecutionProvider"
    inductor_quantiser = "x86" if platform.machine() in ("x86_64", "AMD64") else None

    def __init__(self, index: int | None = None) -> None:
        if index is not None:
            raise ValueError(f"there is one cpu, not cpu:{index}; limit it with taskset and OMP_NUM_THREADS")

    def available(self) -> str | None:
        """Always."""
        return None

    def supports(self, precision: str) -> str | None:
        """TF32 is a format of NVIDIA's matrix units; fp16 needs an instruction set that has it."""
        if precision == "tf32":
            return "tf32 is a mode of NVIDIA matrix units: use --device cuda"
        if precision.endswith("fp16") and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
            return "fp16 convolutions need AVX512-FP16 or AMX-FP16, which this CPU lacks: use bf16 or fp32"
        if precision.endswith("bf16") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return "bf16 convolutions need AVX-512 or AVX2-VNNI-2, which this CPU lacks: use fp32"
        return None

    @contextmanager
    def settings(self, *, tf32: bool) -> Iterator[None]:
        """OneDNN may compute fp32 in a shorter format where it is told to: never here."""
        if tf32:
            raise ValueError("tf32 is a mode of NVIDIA matrix units")
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def synchronize(self) -> None:
        """Nothing is ever pending: torch's CPU operators return when they are done."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch itself."""
        return batch

    def side_stream(self) -> NoReturn:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("the CPU has no queues")

    def reset_peak_memory(self) -> None:
        """Start the kernel's watch of the resident set anew, where it lets us."""
        try:
            Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
        except OSError:  # not Linux, or a sandbox: then the peak is that of the whole process
            return

    def peak_memory(self) -> int | None:
        """Bytes of the process's resident set at its highest, libraries included; None where no /proc tells."""
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            lines = []
        peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        return peaks[0] if peaks else None

    def release(self) -> None:
        """Hand the allocator's free pages back, or the next case starts in this one's memory."""
        if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """The processor, how many cores this process may use, and its governor."""
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return {
            "name": _processor_name(),
            "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "bf16": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
            "fp16": bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()),
            "governor": governor.read_text().strip() if governor.exists() else None,
        }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
