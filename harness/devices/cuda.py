"""NVIDIA GPUs through torch.cuda. Work runs behind the call that submits it, until `synchronize`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.cases import PRECISIONS


class Cuda:
    """One NVIDIA GPU: the first, or the one of an index."""

    kind = "cuda"
    is_host = False

    def __init__(self, index: int | None = None) -> None:
        self.index = index or 0
        self.name = "cuda" if index is None else f"cuda:{index}"

    def available(self) -> str | None:
        """The reason is torch's own answer, so that a driver problem is not called an absent card."""
        if not torch.backends.cuda.is_built():
            return "this torch was built without CUDA"
        if not torch.cuda.is_available():
            return "torch.cuda.is_available() is False"
        if self.index >= torch.cuda.device_count():
            return f"torch.cuda.device_count() is {torch.cuda.device_count()}"
        return None

    def supports(self, precision: str) -> str | None:
        """TF32 and fast bf16 came with compute capability 8.0."""
        major, minor = torch.cuda.get_device_capability(self.index)
        if precision == "tf32" and major < 8:
            return f"tf32 needs compute capability 8.0, this GPU has {major}.{minor}"
        if precision.endswith("bf16") and major < 8:
            return f"bf16 needs compute capability 8.0, this GPU has {major}.{minor}"
        return None

    @contextmanager
    def settings(self, precision: str) -> Iterator[None]:
        """TF32 as the precision says, and cuDNN's search for the fastest algorithm."""
        tf32 = PRECISIONS[precision].tf32
        before = (
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )
        # one way of setting it everywhere: torch refuses to read a mixture of this and the older switch
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        try:
            with torch.cuda.device(self.index):  # libraries beside torch take the current one
                yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]
            torch.backends.cudnn.benchmark = before[2]

    def short_formats(self) -> dict[str, bool]:
        """Whether TF32 is on for cuBLAS (`matmul`) and for cuDNN."""
        return {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}

    def synchronize(self) -> None:
        """Wait for every stream of this GPU."""
        torch.cuda.synchronize(self.index)

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch in GPU memory."""
        return batch.to(f"cuda:{self.index}")

    def reset_peak_memory(self) -> None:
        """Start the allocator's watch anew."""
        torch.cuda.reset_peak_memory_stats(self.index)

    def peak_memory(self) -> int:
        """Bytes that torch's allocator had reserved at its highest on this GPU."""
        return int(torch.cuda.max_memory_reserved(self.index))

    def release(self) -> None:
        """Return cached blocks to the driver."""
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """The card, its memory, and the CUDA and cuDNN versions that torch was built with."""
        card = torch.cuda.get_device_properties(self.index)
        return {
            "name": card.name,
            "compute_capability": f"{card.major}.{card.minor}",
            "memory_mib": card.total_memory // 2**20,
            "multiprocessors": card.multi_processor_count,
            "driver": _driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }


def _driver_version() -> str | None:
    """The kernel driver's version, from the file that it keeps itself."""
    try:
        with open("/sys/module/nvidia/version") as file:
            return file.read().strip()
    except OSError:
        return None
