"""Who asks the server: one client each for gRPC and HTTP, waiting (sync) or on an event loop (async).

A client has one connection of its own and one request open at a time. Here a request is put into the protocol, and an
answer is taken out of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.triton.repository import INPUT, OUTPUT
from harness.triton.server import Endpoint
from models.tasks.classify import Logits

ImageBatch = npt.NDArray[np.float32]

PROTOCOLS = ("grpc", "http")
MODES = ("sync", "async")
CLIENTS = (1, 4, 8)
DEADLINE_S = 30.0
# Without the first, all clients of a process would share one connection; the others lift the limits of 4 MB.
CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True)
class Traffic:
    """Who asks: protocol, mode and how many clients. `str(traffic)` is a part of the test id."""

    protocol: str
    mode: str
    clients: int

    def __str__(self) -> str:
        return f"{self.protocol}-{self.mode}-{self.clients}"


@dataclass(frozen=True)
class Target:
    """Which model to ask, and what its ends are called."""

    model: str
    input: str = INPUT
    output: str = OUTPUT


class RequestFailed(RuntimeError):
    """A request that was not answered; the message is the server's or the connection's."""


class SyncClient(Protocol):
    """Asks and waits. To be used by the thread that opened it, and no other."""

    def infer(self, images: ImageBatch) -> Logits:
        """Logits [n, classes] of images fp32 [n, 3, h, w].

        Raises:
            RequestFailed: there was no answer, or it was an error.
        """

    def close(self) -> None:
        """Close the connection: a server waits for one that is left open."""


class AsyncClient(Protocol):
    """Asks on the running event loop."""

    async def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""

    async def close(self) -> None:
        """See `SyncClient.close`."""


def _failures() -> tuple[type[Exception], ...]:
    """What the client libraries raise where a request fails, in each protocol and on each broken connection."""
    from aiohttp import ClientError
    from geventhttpclient.response import HTTPConnectionClosed, HTTPProtocolViolationError
    from tritonclient.utils import InferenceServerException

    return (
        *(InferenceServerException, OSError, asyncio.TimeoutError),
        *(ClientError, HTTPConnectionClosed, HTTPProtocolViolationError),
        ValueError,  # an answer that ends in the middle
    )


def _explain(error: Exception) -> RequestFailed:
    text = str(error).strip() or type(error).__name__
    return RequestFailed(text if text.startswith("[") else f"{type(error).__name__}: {text}")


def request_of(module: Any, target: Target, images: ImageBatch) -> Any:
    """The input tensor of a request, of either client library."""
    asked = module.InferInput(target.input, list(images.shape), "FP32")
    asked.set_data_from_numpy(images)
    return asked


def answer_of(result: Any, target: Target) -> Logits:
    """The logits of a result.

    Raises:
        RequestFailed: it has none.
    """
    logits: Logits | None = result.as_numpy(target.output)
    if logits is None:
        raise RequestFailed(f"the server answered without {target.output}")
    return logits


class GrpcClient:
    """gRPC, waiting."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is sent yet."""
        import tritonclient.grpc as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(target.output)]
        self._failures = _failures()
        self._client = module.InferenceServerClient(endpoint.grpc, channel_args=CHANNEL)

    def infer(self, images: ImageBatch) -> Logits:
        """See `SyncClient.infer`."""
        return answer_of(self.send([request_of(self._module, self._target, images)], self._outputs), self._target)

    def send(self, inputs: list[Any], outputs: list[Any]) -> Any:
        """One request as the client library takes it, and its result.

        Raises:
            RequestFailed: there was no answer, or it was an error.
        """
        try:
            return self._client.infer(self._target.model, inputs, outputs=outputs, client_timeout=self._deadline_s)
        except self._failures as error:
            raise _explain(error) from None

    def close(self) -> None:
        """See `SyncClient.close`."""
        self._client.close()


class HttpClient:
    """HTTP, waiting."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is sent yet."""
        import tritonclient.http as module

        self._module, self._target = module, target
        self._outputs = [module.InferRequestedOutput(target.output, binary_data=True)]
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
        """See `SyncClient.close`. The event loop that the library made for this thread goes with it."""
        import gevent

        self._client.close()
        gevent.get_hub().destroy(destroy_loop=True)


class AioGrpcClient:
    """gRPC on an event loop."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is sent yet."""
        import tritonclient.grpc.aio as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(target.output)]
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
    """HTTP on an event loop."""

    def __init__(self, endpoint: Endpoint, target: Target, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is sent yet."""
        import tritonclient.http.aio as module

        self._module, self._target, self._deadline_s = module, target, deadline_s
        self._outputs = [module.InferRequestedOutput(target.output, binary_data=True)]
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
