"""Requests that a server has to refuse, each with the words by which the refusal says what was wrong."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.triton.clients import CHANNEL, GrpcClient, RequestFailed, SyncClient, Target, type_of
from harness.triton.host import ServedModel

SHORT_S = 1e-4


@dataclass(frozen=True)
class Mistake:
    """A wrong request.

    Attributes:
        name: the name of the mistake in the test id.
        words: a regular expression that the refusal has to match.
        send: sends the request and returns the refusal, empty if there was none.
    """

    name: str
    words: str
    send: Callable[[ServedModel], str]


def _refused(
    served: ServedModel,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    name: str | None = None,
    model: str | None = None,
    version: str = "",
    output: str | None = None,
    timeout_s: float = 10.0,
) -> str:
    """Return the refusal of a gRPC request that differs from a right one only in the arguments given."""
    import tritonclient.grpc as module
    from tritonclient.utils import InferenceServerException

    images = served.batches[0]
    tensor = np.zeros(shape or images.shape, images.dtype if dtype is None else np.float64)
    asked = module.InferInput(name or served.target.input, list(tensor.shape), dtype or type_of(images))
    asked.set_data_from_numpy(tensor)
    client = module.InferenceServerClient(served.server.endpoint.grpc, channel_args=CHANNEL)
    try:
        client.infer(
            model or served.name,
            [asked],
            model_version=version,
            outputs=[module.InferRequestedOutput(output or served.target.outputs[0])],
            client_timeout=timeout_s,
        )
    except InferenceServerException as error:
        return str(error)
    finally:
        client.close()
    return ""


def _narrow(served: ServedModel) -> tuple[int, ...]:
    return (*served.batches[0].shape[:-1], 5)


def _too_many(served: ServedModel) -> tuple[int, ...]:
    return (served.exported.artefact.max_batch + 1, *served.batches[0].shape[1:])


def _malformed_json(served: ServedModel) -> str:
    connection = http.client.HTTPConnection(served.server.endpoint.http, timeout=10)
    try:
        connection.request("POST", f"/v2/models/{served.name}/infer", b'{"inputs": [', {"Connection": "close"})
        answer = connection.getresponse()
        return f"[{answer.status}] {answer.read().decode()}"
    finally:
        connection.close()


def _unknown_over_http(served: ServedModel) -> str:
    from harness.triton.clients import HttpClient

    return _refusal(HttpClient(served.server.endpoint, Target("no_such_model")), served)


def _timeout(served: ServedModel) -> str:
    return _refusal(GrpcClient(served.server.endpoint, served.target, SHORT_S), served)


def _refusal(client: SyncClient, served: ServedModel) -> str:
    """Return why the server refuses a request of one of this suite's clients, empty if it is answered."""
    try:
        client.infer(served.batches[0])
    except RequestFailed as refusal:
        return str(refusal)
    finally:
        client.close()
    return ""


MISTAKES = (
    Mistake("shape", r"INVALID_ARGUMENT.*unexpected shape for input", lambda s: _refused(s, shape=_narrow(s))),
    Mistake(
        "type", r"INVALID_ARGUMENT.*data-type is 'FP64'.*expects '(FP32|UINT8)'", lambda s: _refused(s, dtype="FP64")
    ),
    Mistake("name", r"INVALID_ARGUMENT.*unexpected inference input 'nothing'", lambda s: _refused(s, name="nothing")),
    Mistake("output", r"INVALID_ARGUMENT.*inference output 'nothing'", lambda s: _refused(s, output="nothing")),
    Mistake("batch", r"INVALID_ARGUMENT.*batch-size must be <=", lambda s: _refused(s, shape=_too_many(s))),
    Mistake("model", r"NOT_FOUND.*unknown model: 'no_such_model'", lambda s: _refused(s, model="no_such_model")),
    Mistake("model-http", r"\[404\].*unknown model: 'no_such_model'", _unknown_over_http),
    Mistake("version", r"NOT_FOUND.*version 9 is not found", lambda s: _refused(s, version="9")),
    Mistake("json", r"\[(400|500)\].*failed to parse the request JSON", _malformed_json),
    Mistake("timeout", r"Deadline Exceeded|DEADLINE_EXCEEDED", _timeout),
)


def label_of(served: ServedModel) -> str:
    """Return the label that the server itself gives to the likeliest class of the first image."""
    import tritonclient.grpc as module

    client = GrpcClient(served.server.endpoint, served.target)
    images = served.batches[0][:1]
    asked = module.InferInput(served.target.input, list(images.shape), type_of(images))
    asked.set_data_from_numpy(images)
    try:
        result = client.send([asked], [module.InferRequestedOutput(served.target.outputs[0], class_count=1)])
    finally:
        client.close()
    answer: bytes = result.as_numpy(served.target.outputs[0]).reshape(-1)[0]
    return answer.decode().rpartition(":")[2]  # the answer is score:index:label
