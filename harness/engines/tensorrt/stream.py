"""A CUDA stream beside torch's default one, on which TensorRT queues its work."""

from __future__ import annotations

import torch


class CudaStream:
    """A separate CUDA stream on one GPU. `torch.cuda.synchronize` waits for it as well."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._stream = torch.cuda.Stream(index)
        self.handle = int(self._stream.cuda_stream)

    def wait_for_default(self) -> None:
        """Make all work that is queued on this stream from now on wait for the work that torch has queued so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._index))

    def keep(self, batch: torch.Tensor) -> None:
        """Keep torch from using the memory of this batch for anything else before this stream has read it.

        Source: PyTorch documentation, `torch.Tensor.record_stream`.
        """
        batch.record_stream(self._stream)
