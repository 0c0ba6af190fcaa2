"""NVIDIA GPUs through torch.cuda. Submitted work runs asynchronously; `synchronize` waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import torch

from harness.cases import PRECISIONS
from harness.devices.copies import CopyStream

# Whether products of 16-bit numbers may be summed in 16 bits as well, which is torch's default. It changes answers and
# times, and no label says it.
_REDUCTIONS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)
# At 1, what looks at a step for torch lets go of the driver afterwards. Otherwise it stays, and every later launch of a
# kernel in the process takes longer: the step of a model by 10 to 20%, says PyTorch's pull request 146604. It is off by
# default, there as here: what it does to a process that is looked at many times has not been tried.
_DETACHES = "TEARDOWN_CUPTI"


class Cuda:
    """One NVIDIA GPU: the first, or the one with the given index."""

    kind = "cuda"
    is_host = False

    def __init__(self, index: int | None = None) -> None:
        self.index = index or 0
        self.name = "cuda" if index is None else f"cuda:{index}"
        self._copies = CopyStream(torch.cuda, f"cuda:{self.index}", self.index)

    def available(self) -> str | None:
        """See `Device.available`. The reason quotes torch, so a driver problem does not look like a missing GPU."""
        if not torch.backends.cuda.is_built():
            return "this torch was built without CUDA"
        if not torch.cuda.is_available():
            return "torch.cuda.is_available() is False"
        if self.index >= torch.cuda.device_count():
            return f"torch.cuda.device_count() is {torch.cuda.device_count()}"
        return None

    def supports(self, precision: str) -> str | None:
        """See `Device.supports`. TF32 and fast bf16 need compute capability 8.0."""
        major, minor = torch.cuda.get_device_capability(self.index)
        if precision == "tf32" and major < 8:
            return f"tf32 needs compute capability 8.0, this GPU has {major}.{minor}"
        if precision.endswith("bf16") and major < 8:
            return f"bf16 needs compute capability 8.0, this GPU has {major}.{minor}"
        return None

    @contextmanager
    def settings(self, precision: str) -> Iterator[None]:
        """See `Device.settings`. Sets TF32 as the precision asks and turns on cuDNN's search for fast algorithms."""
        tf32 = PRECISIONS[precision].tf32
        before = (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )
        # the same switch as everywhere else: torch refuses to read a mixture of this one and the older one
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        try:
            with torch.cuda.device(self.index):  # libraries other than torch use the current device
                yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]
            torch.backends.cudnn.benchmark = before[2]

    def short_formats(self) -> dict[str, bool]:
        """See `Device.short_formats`: whether TF32 is on for cuBLAS (`matmul`) and for cuDNN (`cudnn`)."""
        return {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}

    def conditions(self) -> dict[str, str | int | float | bool | None]:
        """See `Device.conditions`: sums in 16 bits, tracing, and the GPU's power limit, clock and MIG mode."""
        switches = {name: getattr(torch.backends.cuda.matmul, name, None) for name in _REDUCTIONS}
        return {
            **switches,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "tracing_detaches": os.environ.get(_DETACHES) == "1",
            **_limits(self.index),
        }

    def synchronize(self) -> None:
        """Wait for all CUDA streams of this GPU."""
        torch.cuda.synchronize(self.index)

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Device.put`. The copy is pinned, and runs beside the work that is queued."""
        return self._copies.put(batch)

    def reset_peak_memory(self) -> None:
        """Reset the peak statistics of torch's allocator."""
        torch.cuda.reset_peak_memory_stats(self.index)

    def peak_memory(self) -> int:
        """Return the peak number of bytes that torch's allocator has reserved on this GPU."""
        return int(torch.cuda.max_memory_reserved(self.index))

    def release(self) -> None:
        """Return the allocator's cached blocks to the driver."""
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return the GPU's name and properties, its driver, and the CUDA and cuDNN versions that torch uses."""
        card = torch.cuda.get_device_properties(self.index)
        return {
            "name": card.name,
            "compute_capability": f"{card.major}.{card.minor}",
            "memory_mib": card.total_memory // 2**20,
            "multiprocessors": card.multi_processor_count,
            "driver": _driver_version(),
            "uuid": str(getattr(card, "uuid", "")) or None,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


def _driver_version() -> str | None:
    """Return the version of the kernel driver, as the driver itself reports it under /sys, or None."""
    try:
        with open("/sys/module/nvidia/version", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


def _limits(index: int) -> dict[str, str | int | float | bool | None]:
    """Return the power limit in watts, the application clock in MHz and the MIG mode; None where NVML does not tell."""
    found: dict[str, str | int | float | bool | None] = dict.fromkeys(
        ("power_limit_w", "application_clock_mhz", "is_mig_enabled")
    )
    try:
        pynvml: Any = import_module("pynvml")
    except ImportError:
        return found
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return found
    asked: dict[str, Callable[[Any], str | int | float | bool]] = {
        "power_limit_w": lambda gpu: pynvml.nvmlDeviceGetPowerManagementLimit(gpu) / 1000,
        "application_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetApplicationsClock(gpu, pynvml.NVML_CLOCK_SM),
        "is_mig_enabled": lambda gpu: bool(pynvml.nvmlDeviceGetMigMode(gpu)[0]),
    }
    try:
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)  # NVML counts GPUs otherwise than CUDA_VISIBLE_DEVICES does
        for name, ask in asked.items():
            with suppress(pynvml.NVMLError):  # not every GPU has each of them
                found[name] = ask(gpu)
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()
    return found
