"""The host processor as a device. Its work is done when a call returns."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from harness.cases import PRECISIONS

_CLEAR_PEAK = "5"  # proc(5): writing it to clear_refs resets VmHWM


class Cpu:
    """The CPU. There is only one; thread count and affinity determine how much of it a process uses."""

    kind = "cpu"
    index = 0
    name = "cpu"
    is_host = True

    def __init__(self, index: int | None = None) -> None:
        if index is not None:
            raise ValueError(f"there is one cpu, not cpu:{index}; limit it with --cores and --threads")

    def available(self) -> str | None:
        """See `Device.available`. The processor is always available."""
        return None

    def supports(self, precision: str) -> str | None:
        """See `Device.supports`. TF32 needs an NVIDIA GPU; bf16 and fp16 need support in the CPU's instructions."""
        if precision == "tf32":
            return "tf32 is a mode of NVIDIA matrix units: use --device cuda"
        if precision.endswith("fp16") and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
            return "fp16 convolutions need AVX512-FP16 or AMX-FP16, which this CPU lacks: use bf16 or fp32"
        if precision.endswith("bf16") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return "bf16 convolutions need AVX-512 or AVX2-VNNI-2, which this CPU lacks: use fp32"
        return None

    @contextmanager
    def settings(self, precision: str) -> Iterator[None]:
        """See `Device.settings`. Forbids oneDNN to compute fp32 in a shorter format."""
        if PRECISIONS[precision].tf32:
            raise ValueError("tf32 is a mode of NVIDIA matrix units")
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def short_formats(self) -> dict[str, bool]:
        """See `Device.short_formats`: whether oneDNN may shorten fp32, in convolutions and in matrix products."""
        found = {}
        for part in ("conv", "matmul"):
            switch = getattr(torch.backends.mkldnn, part, None)  # torch before 2.9 has none of its own
            found[f"onednn_{part}"] = getattr(switch, "fp32_precision", "none") not in ("none", "ieee")
        found["onednn_matmul"] |= torch.get_float32_matmul_precision() != "highest"
        return found

    def conditions(self) -> dict[str, str | int | float | bool | None]:
        """See `Device.conditions`. Nothing beside the description is known to matter."""
        return {}

    def synchronize(self) -> None:
        """See `Device.synchronize`. Does nothing, because torch's CPU operators return only when they are done."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the batch itself."""
        return batch

    def reset_peak_memory(self) -> None:
        """Reset the kernel's record of the peak resident set size, where that is permitted."""
        try:
            Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="utf-8")
        except OSError:  # not Linux, or a sandbox: then the peak is that of the whole process
            return

    def peak_memory(self) -> int | None:
        """Return the peak resident set size of the process in bytes, libraries included, or None without /proc."""
        try:
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        return peaks[0] if peaks else None

    def release(self) -> None:
        """Return the allocator's free pages to the system, so that they do not count as the next case's memory."""
        if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return the processor's name, the number of usable cores, the instruction set and the frequency governor."""
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return {
            "name": _processor_name(),
            "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "bf16": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
            "fp16": bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()),
            "governor": governor.read_text(encoding="utf-8").strip() if governor.exists() else None,
        }


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
