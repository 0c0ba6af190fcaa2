"""Intel GPUs through native torch.xpu. Submitted work runs asynchronously; `synchronize` waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.cases import PRECISIONS
from harness.devices.copies import CopyStream


class Xpu:
    """One Intel GPU: the first, or the one with the given index."""

    kind = "xpu"
    is_host = False

    def __init__(self, index: int | None = None) -> None:
        self.index = index or 0
        self.name = "xpu" if index is None else f"xpu:{index}"
        self._copies = CopyStream(getattr(torch, "xpu", None), f"xpu:{self.index}", self.index)

    def available(self) -> str | None:
        """See `Device.available`. The reason quotes torch."""
        if not hasattr(torch, "xpu"):  # as in the torch of Graphcore's SDK, which asks for every device that there is
            return f"torch {torch.__version__} has no XPU support"
        if not torch.xpu._is_compiled():
            return "this torch was built without XPU support"
        if not torch.xpu.is_available():
            return "torch.xpu.is_available() is False"
        if self.index >= torch.xpu.device_count():
            return f"torch.xpu.device_count() is {torch.xpu.device_count()}"
        return None

    def supports(self, precision: str) -> str | None:
        """See `Device.supports`. TF32 is a mode of NVIDIA's matrix units."""
        if precision == "tf32":
            return "tf32 is a mode of NVIDIA matrix units: use --device cuda"
        if precision.endswith("bf16") and not torch.xpu.is_bf16_supported():
            return "torch.xpu.is_bf16_supported() is False"
        return None

    @contextmanager
    def settings(self, precision: str) -> Iterator[None]:
        """See `Device.settings`. Initialises torch.xpu and forbids oneDNN to compute fp32 in a shorter format.

        torch.xpu initialises itself only when it is asked for a tensor or for properties, and its statistics of memory
        raise an error before that.
        """
        if PRECISIONS[precision].tf32:
            raise ValueError("tf32 is a mode of NVIDIA matrix units")
        torch.xpu.init()
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.xpu.device(self.index):  # libraries other than torch use the current device
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def short_formats(self) -> dict[str, bool]:
        """See `Device.short_formats`: whether oneDNN may shorten fp32 in matrix products."""
        return {"onednn_matmul": torch.get_float32_matmul_precision() != "highest"}

    def conditions(self) -> dict[str, str | int | float | bool | None]:
        """See `Device.conditions`. Nothing beside the description is known to matter."""
        return {}

    def synchronize(self) -> None:
        """Wait for all queues of this GPU."""
        torch.xpu.synchronize(self.index)

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Device.put`. The copy is pinned, and runs beside the work that is queued."""
        return self._copies.put(batch)

    def reset_peak_memory(self) -> None:
        """Reset the peak statistics of torch's allocator."""
        torch.xpu.reset_peak_memory_stats(self.index)

    def peak_memory(self) -> int:
        """Return the peak number of bytes that torch's allocator has reserved on this GPU."""
        return int(torch.xpu.max_memory_reserved(self.index))

    def release(self) -> None:
        """Return the allocator's cached blocks to the driver."""
        torch.xpu.empty_cache()

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return the GPU's name, memory, number of execution units, driver version and UUID in hexadecimal digits."""
        card = torch.xpu.get_device_properties(self.index)
        return {
            "name": card.name,
            "memory_mib": card.total_memory // 2**20,
            "execution_units": card.gpu_eu_count,
            "driver": card.driver_version,
            "uuid": _hexadecimal(getattr(card, "uuid", None)),
        }


def _hexadecimal(uuid: Any) -> str | None:
    """Return the 16 bytes of a UUID as 32 hexadecimal digits, from bytes, a list of numbers or a text; else None."""
    if uuid is None:
        return None
    if isinstance(uuid, bytes | list | tuple):
        return bytes(uuid).hex()
    digits = str(uuid).replace("-", "").lower()
    return digits if len(digits) == 32 else None
