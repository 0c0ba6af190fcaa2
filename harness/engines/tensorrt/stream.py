"""A queue of work on an NVIDIA GPU beside torch's default one: TensorRT is told where to queue."""

from __future__ import annotations

import torch


class CudaStream:
    """A stream of its own on one GPU. `torch.cuda.synchronize` waits for it as well."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._stream = torch.cuda.Stream(index)
        self.handle = int(self._stream.cuda_stream)

    def wait_for_default(self) -> None:
        """Let what is queued here from now on run after what torch has queued so far."""
        self._stream.wait_stream(torch.cuda.current_stream(self._index))
