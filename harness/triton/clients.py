"""Clients that ask a Triton server over gRPC or HTTP, either blocking (sync) or on an event loop (async).

Each client has a connection of its own and at most one request open at a time. It encodes requests for its protocol and
decodes the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.triton.answers import rows_of_outputs
from harness.triton.repository import INPUT, OUTPUT
from harness.triton.server import Endpoint
from models.tasks.classify import Logits

ImageBatch = npt.NDArray[np.float32] | npt.NDArray[np.uint8]

PROTOCOLS = ("grpc", "http")
# gRPC whose images and answers lie in memory that client and server share.
SHARED_MEMORY = "shared_memory"
MODES = ("sync", "async")
CLIENTS = (1, 4, 8)
DEADLINE_S = 30.0
# Without the first, all clients of a process would share one connection; the others lift gRPC's limits of 4 MB.
CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True)
class Traffic:
    """The load on a server: protocol, mode and number of clients. `str(traffic)` is a part of the test id."""

    protocol: str
    mode: str
    clients: int

    def __str__(self) -> str:
        return f"{self.protocol}-{self.mode}-{self.clients}"


def all_traffics(clients: Iterable[int]) -> list[Traffic]:
    """Return every traffic of each of these numbers of clients.

    Shared memory has no mode `async`: an image and its answer are copied by the client itself, which blocks.
    """
    ways = [*product(PROTOCOLS, MODES), (SHARED_MEMORY, "sync")]
    return [Traffic(*way, count) for way, count in product(ways, clients)]


@dataclass(frozen=True)
class Target:
    """The model to ask for, and the names of its input and of its output tensors.

    An answer is one row of numbers an image: those of all outputs, one output behind the other in this order. `widths`
    is how many numbers an image has in each output; only a client whose answers lie in shared memory has to know.
    """

    model: str
    input: str = INPUT
    outputs: tuple[str, ...] = (OUTPUT,)
    widths: tuple[int, ...] = ()


class RequestFailed(RuntimeError):
    """A request got no answer, or an error; the message is the server's or the connection's."""


class SyncClient(Protocol):
    """A client that blocks until it has the answer. Only the thread that opened it may use it."""

    def infer(self, images: ImageBatch) -> Logits:
        """Return the logits [n, classes] of images, fp32 or uint8 [n, 3, h, w].

        Raises:
            RequestFailed: if there was no answer, or if the answer was an error.
        """

    def close(self) -> None:
        """Close the connection, because a server waits for a connection that is left open."""


class AsyncClient(Protocol):
    """A client that runs on the current event loop."""

    async def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""

    async def close(self) -> None:
        """See `SyncClient.close`."""


def _failures() -> tuple[type[Exception], ...]:
    """Return the exceptions that the client libraries raise for a failed request or a broken connection."""
    from aiohttp import ClientError
    from geventhttpclient.response import HTTPConnectionClosed, HTTPProtocolViolationError
    from tritonclient.utils import InferenceServerException

    return (
        *(InferenceServerException, OSError, asyncio.TimeoutError),
        *(ClientError, HTTPConnectionClosed, HTTPProtocolViolationError),
        ValueError,  # raised for an answer that ends in the middle
    )


def _explain(error: Exception) -> RequestFailed:
    text = str(error).strip() or type(error).__name__
    return RequestFailed(text if text.startswith("[") else f"{type(error).__name__}: {text}")


def type_of(images: ImageBatch) -> str:
    """Return the type of images as the protocol names it: `FP32`, or `UINT8` for a model that takes bytes."""
    return {"float32": "FP32", "uint8": "UINT8"}[images.dtype.name]


def request_of(module: Any, target: Target, images: ImageBatch) -> Any:
    """Return the input tensor of a request, made with either client library as `module`."""
    asked = module.InferInput(target.input, list(images.shape), type_of(images))
    asked.set_data_from_numpy(images)
    return asked


def answer_of(result: Any, target: Target) -> Logits:
    """Return the numbers of a result, a row an image.

    Raises:
        RequestFailed: if the result lacks an output.
    """
    found = {name: result.as_numpy(name) for name in target.outputs}
    missing = [name for name, array in found.items() if array is None]
    if missing:
        raise RequestFailed(f"the server answered without {', '.join(missing)}")
    return rows_of_outputs(found.values())


class GrpcClient:
    """A blocking gRPC client."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Prepare the connection; nothing is sent yet."""
        import tritonclient.grpc as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(name) for name in target.outputs]
        self._failures = _failures()
        self._client = module.InferenceServerClient(endpoint.grpc, channel_args=CHANNEL)

    def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""
        return answer_of(self.send([request_of(self._module, self._target, images)], self._outputs), self._target)

    def send(self, inputs: list[Any], outputs: list[Any]) -> Any:
        """Send one request, given in the client library's own types, and return its result.

        Raises:
            RequestFailed: if there was no answer, or if the answer was an error.
        """
        try:
            return self._client.infer(self._target.model, inputs, outputs=outputs, client_timeout=self._deadline_s)
        except self._failures as error:
            raise _explain(error) from None

    def close(self) -> None:
        """See `SyncClient.close`."""
        self._client.close()


class HttpClient:
    """A blocking HTTP client."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Prepare the connection; nothing is sent yet."""
        import tritonclient.http as module

        self._module, self._target = module, target
        self._outputs = [module.InferRequestedOutput(name, binary_data=True) for name in target.outputs]
        self._failures = _failures()
        self._client = module.InferenceServerClient(
            endpoint.http, concurrency=1, connection_timeout=deadline_s, network_timeout=deadline_s
        )

    def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""
        try:
            return answer_of(
                self._client.infer(
                    self._target.model, [request_of(self._module, self._target, images)], outputs=self._outputs
                ),
                self._target,
            )
        except self._failures as error:
            raise _explain(error) from None

    def close(self) -> None:
        """See `SyncClient.close`. This also ends the event loop that the library made for this thread."""
        import gevent

        self._client.close()
        gevent.get_hub().destroy(destroy_loop=True)


class AioGrpcClient:
    """A gRPC client on an event loop."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Prepare the connection; nothing is sent yet."""
        import tritonclient.grpc.aio as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(name) for name in target.outputs]
        self._failures = _failures()
        self._client = module.InferenceServerClient(endpoint.grpc, channel_args=CHANNEL)

    async def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""
        try:
            return answer_of(
                await self._client.infer(
                    self._target.model,
                    [request_of(self._module, self._target, images)],
                    outputs=self._outputs,
                    client_timeout=self._deadline_s,
                ),
                self._target,
            )
        except self._failures as error:
            raise _explain(error) from None

    async def close(self) -> None:
        """See `SyncClient.close`."""
        await self._client.close()


class AioHttpClient:
    """An HTTP client on an event loop."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Prepare the connection; nothing is sent yet."""
        import tritonclient.http.aio as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(name, binary_data=True) for name in target.outputs]
        self._failures = _failures()
        self._client = module.InferenceServerClient(endpoint.http, conn_limit=1, conn_timeout=deadline_s)

    async def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""
        try:
            return answer_of(
                await self._client.infer(
                    self._target.model, [request_of(self._module, self._target, images)], outputs=self._outputs
                ),
                self._target,
            )
        except self._failures as error:
            raise _explain(error) from None

    async def close(self) -> None:
        """See `SyncClient.close`."""
        await self._client.close()


SYNC: dict[str, Callable[..., SyncClient]] = {"grpc": GrpcClient, "http": HttpClient}
ASYNC: dict[str, Callable[..., AsyncClient]] = {"grpc": AioGrpcClient, "http": AioHttpClient}
