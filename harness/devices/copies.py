"""Copies from host memory to a GPU: pinned, not waited for, and on a stream of their own."""

from __future__ import annotations

from typing import Any

import torch


class CopyStream:
    """A stream of one GPU that carries nothing but copies from host memory.

    A copy from pageable memory, or on the stream that computes, would wait for all the work that is queued there, and
    that work would wait for it. On a stream of its own the next batch travels while the last one is computed.

    Source: PyTorch documentation, "CUDA semantics", sections "CUDA streams" and "Use pinned memory buffers".
    """

    def __init__(self, backend: Any, place: str, index: int) -> None:
        """Remember where to copy. The stream is made by the first copy, when the GPU is in use anyway.

        Args:
            backend: the module of torch that drives the GPU: `torch.cuda` or `torch.xpu`.
            place: the GPU as torch writes it, such as `cuda:0`.
            index: the GPU's index.
        """
        self._backend = backend
        self._place = place
        self._index = index
        self._stream: Any = None

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the batch in the memory of the GPU, in the same layout.

        The call may return before the copy is done. What is queued on the current stream afterwards waits for it. The
        batch itself is free at once: it was copied to pinned memory, which torch keeps until the GPU has read it.
        """
        if batch.device.type != "cpu":
            return batch.to(self._place)
        if self._stream is None:
            self._stream = self._backend.Stream(device=self._index)
        staged = torch.empty_like(batch, pin_memory=True)
        staged.copy_(batch)
        with self._backend.stream(self._stream):
            placed = staged.to(self._place, non_blocking=True)
        computing = self._backend.current_stream(self._index)
        computing.wait_stream(self._stream)
        placed.record_stream(computing)  # its memory was allocated on the copying stream
        return placed
