"""Intel GPUs through native torch.xpu. Work runs behind the call that submits it, until `synchronize`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch


class Xpu:
    """One Intel GPU: the first, or the one of an index."""

    profiler_activity = "XPU"
    # The FBNet sample's finding for the Flex series: the fused layer calls the functional batch norm, which the
    # Intel backend does not fuse with its neighbours.
    plain_batchnorm = True
    cuda_graphs = False
    onnxruntime_provider = None
    runs_tensorrt = False
    inductor_quantiser = "xpu"

    def __init__(self, index: int | None = None) -> None:
        self._index = index or 0
        self.name = "xpu" if index is None else f"xpu:{index}"
        self.torch_name = f"xpu:{self._index}"
        self.openvino_name = f"GPU.{self._index}"

    def available(self) -> str | None:
        """The reason is torch's own answer."""
        if not torch.xpu._is_compiled():
            return "this torch was built without XPU support"
        if not torch.xpu.is_available():
            return "torch.xpu.is_available() is False"
        if self._index >= torch.xpu.device_count():
            return f"torch.xpu.device_count() is {torch.xpu.device_count()}"
        return None

    def supports(self, precision: str) -> str | None:
        """TF32 is a mode of NVIDIA's matrix units."""
        if precision == "tf32":
            return "tf32 is a mode of NVIDIA matrix units: use --device cuda"
        if precision.endswith("bf16") and not torch.xpu.is_bf16_supported():
            return "torch.xpu.is_bf16_supported() is False"
        return None

    @contextmanager
    def settings(self, *, tf32: bool) -> Iterator[None]:
        """OneDNN must not shorten fp32."""
        if tf32:
            raise ValueError("tf32 is a mode of NVIDIA matrix units")
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def synchronize(self) -> None:
        """Wait for every queue of this GPU."""
        torch.xpu.synchronize(self._index)

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch in GPU memory."""
        return batch.to(self.torch_name)

    def side_stream(self) -> NoReturn:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("no engine here queues beside torch on an Intel GPU")

    def reset_peak_memory(self) -> None:
        """Start the allocator's watch anew."""
        torch.xpu.reset_peak_memory_stats(self._index)

    def peak_memory(self) -> int:
        """Bytes that torch's allocator had reserved at its highest on this GPU."""
        return int(torch.xpu.max_memory_reserved(self._index))

    def release(self) -> None:
        """Return cached blocks to the driver."""
        torch.xpu.empty_cache()

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """The card, its memory and its driver."""
        card = torch.xpu.get_device_properties(self._index)
        return {
            "name": card.name,
            "memory_mib": card.total_memory // 2**20,
            "execution_units": card.gpu_eu_count,
            "driver": card.driver_version,
        }
