"""A gRPC client whose images and answers lie in shared memory, so that the connection carries only their places.

The region's name is removed as soon as the server has mapped the region. Whatever happens then, nothing is left behind.
"""

from __future__ import annotations

import mmap
import os
import secrets

import numpy as np

from harness.triton.answers import rows_of_outputs
from harness.triton.clients import DEADLINE_S, GrpcClient, ImageBatch, RequestFailed, Target, type_of
from harness.triton.control import calling
from harness.triton.server import Server
from models.tasks.classify import Logits


class SharedMemoryClient:
    """A blocking client, like `GrpcClient`, for a server on this machine."""

    def __init__(self, server: Server, target: Target, images: ImageBatch) -> None:
        """Create a region for one request and its answer, and have the server map it.

        Args:
            server: the server, which has to run on this machine.
            target: the model to ask for.
            images: a request like those that will be sent: [n, 3, h, w], fp32 or uint8.

        Raises:
            RequestFailed: there is no room for the region.
        """
        import tritonclient.grpc as module

        widths = target.widths
        self._server = server
        self._region = f"{server.shared_memory_prefix}client_{secrets.token_hex(3)}"
        self._in_bytes, out_bytes = images.nbytes, [len(images) * width * 4 for width in widths]
        places = [self._in_bytes + sum(out_bytes[:index]) for index in range(len(widths))]
        self._memory = _map(self._region, self._in_bytes + sum(out_bytes))
        try:
            with calling(self._server) as control:
                control.register_system_shared_memory(
                    self._region,
                    f"/{self._region}",
                    self._in_bytes + sum(out_bytes),
                    headers=self._server.token_header,
                    client_timeout=DEADLINE_S,
                )
        finally:
            os.unlink(f"/dev/shm/{self._region}")
        self._place = np.frombuffer(self._memory, images.dtype, images.size).reshape(images.shape)
        self._answers = [
            np.frombuffer(self._memory, np.float32, len(images) * width, place).reshape(len(images), width)
            for width, place in zip(widths, places, strict=True)
        ]
        self._input = module.InferInput(target.input, list(images.shape), type_of(images))
        self._input.set_shared_memory(self._region, self._in_bytes)
        self._outputs = [module.InferRequestedOutput(name) for name in target.outputs]
        for output, size, place in zip(self._outputs, out_bytes, places, strict=True):
            output.set_shared_memory(self._region, size, place)
        self._client = GrpcClient(server.endpoint, target)

    def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`. The images are copied into the region and the answer out of it."""
        self._place[:] = images
        for answer in self._answers:
            answer[:] = np.nan  # so that an answer that the server did not write is recognised
        self._client.send([self._input], self._outputs)
        answers: Logits = rows_of_outputs(self._answers).copy()
        return answers

    def close(self) -> None:
        """See `SyncClient.close`. The server also lets the region go."""
        self._client.close()
        with calling(self._server) as control:
            control.unregister_system_shared_memory(
                self._region, headers=self._server.token_header, client_timeout=DEADLINE_S
            )
        del self._place, self._answers
        self._memory.close()


def _map(name: str, size: int) -> mmap.mmap:
    """Create a shared memory region of that name, and map it here.

    Raises:
        RequestFailed: there is no room for it.
    """
    descriptor = os.open(f"/dev/shm/{name}", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)  # without the room, the first write would end this process
        return mmap.mmap(descriptor, size)
    except OSError as error:
        os.unlink(f"/dev/shm/{name}")
        raise RequestFailed(
            f"/dev/shm has no room for {size / 1e6:.1f} MB of a request and its answer ({error.strerror}); make it "
            f"larger, in a container with --shm-size"
        ) from None
    finally:
        os.close(descriptor)
