"""Loads and unloads a server's models, and reads what the server reports of them, such as statistics.

Every call has a deadline, because a load can hang in the server for ever: it does so for a model without its
`model.py`.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.triton.clients import CHANNEL
from harness.triton.repository import ModelFiles, is_supplied, upload, write_model
from harness.triton.server import Server

LOAD_S = 120.0
CALL_S = 10.0
UNLOAD_S = 30.0
METRIC = "visionmark_session"
_NO_BACKEND = "unable to find backend library"
_NOT_OURS_TO_LOAD = "explicit model load / unload is not allowed"


class ModelNotServed(RuntimeError):
    """The server did not load or unload a model; the message quotes the server."""


class NoBackend(ModelNotServed):
    """The server has none of the backends that can run the model's file."""


@dataclass(frozen=True)
class Statistics:
    """What the server has counted for one model since it was loaded.

    Attributes:
        images: the number of inferences, one for each image.
        executions: the number of batches that the server formed and ran.
        requests: the number of requests that were answered successfully.
        failures: the number of requests that were answered with an error.
        queue_s: seconds in the queue, summed over the requests.
        input_s: seconds spent on taking the inputs, summed over the requests.
        compute_s: seconds spent on running the model, summed over the requests.
        output_s: seconds spent on giving the outputs, summed over the requests.
    """

    images: int
    executions: int
    requests: int
    failures: int
    queue_s: float
    input_s: float
    compute_s: float
    output_s: float

    def since(self, before: Statistics) -> Statistics:
        """Return what was counted after the reading `before`, up to this one."""
        names = self.__dataclass_fields__
        return Statistics(**{name: getattr(self, name) - getattr(before, name) for name in names})

    def mean_ms(self, part: str) -> float:
        """Return the mean milliseconds per request of `queue`, `input`, `compute` or `output`."""
        return 1e3 * float(getattr(self, f"{part}_s")) / max(1, self.requests)


@contextmanager
def calling(server: Server) -> Iterator[Any]:
    """Open a gRPC connection for control calls, and close it at the end."""
    import tritonclient.grpc as module

    client = module.InferenceServerClient(server.endpoint.grpc, channel_args=CHANNEL)
    try:
        yield client
    finally:
        client.close()


def load_model(server: Server, artefact: ModelFiles, deadline_s: float = LOAD_S) -> str | None:
    """Have the server load a model, with the first of the model's backends that the server has.

    A model that the user supplies is loaded as it is.

    Returns:
        The backend, or None for a model that the user supplies.

    Raises:
        NoBackend: if the server has no backend for the file.
        ModelNotServed: if the server refused the model for another reason.
        ServerFailed: if the load hung; the server must not be used any more.
        RepositoryError: if the model's folder cannot be written.
    """
    if server.repository is not None and is_supplied(server.repository, artefact.name):
        request_load(server, artefact.name, deadline_s)
        return None
    refusals = []
    for backend in artefact.backends():
        config: str | None = None
        files: dict[str, bytes] | None = None
        if server.repository is not None:
            write_model(server.repository, artefact, backend)
        else:
            config, files = upload(artefact, backend)
        try:
            request_load(server, artefact.name, deadline_s, config, files)
        except ModelNotServed as refused:
            if _NOT_OURS_TO_LOAD in str(refused) and is_ready(server, artefact.name):
                return None
            if _NO_BACKEND not in str(refused):
                raise
            refusals.append(backend)
        else:
            return backend
    raise NoBackend(f"the server has no backend for {artefact.file.name}: none of {', '.join(refusals)}")


def request_load(
    server: Server,
    name: str,
    deadline_s: float = LOAD_S,
    config: str | None = None,
    files: dict[str, bytes] | None = None,
) -> None:
    """Have the server load one model, from its repository or from the files that are sent along.

    Raises:
        ModelNotServed: if the server refused; the message quotes it.
        ServerFailed: if the server did not answer in time, or has ended.
    """
    from tritonclient.utils import InferenceServerException

    server.require_usable()
    with calling(server) as client:
        try:
            client.load_model(name, config=config, files=files, client_timeout=deadline_s)
        except InferenceServerException as error:
            server.require_usable()
            if "DEADLINE_EXCEEDED" in str(error.status()):
                server.spoil(
                    f"loading model {name!r} did not end within {deadline_s:g} s (a folder without its model.py does "
                    f"that); the server is given up\n{server.log_tail()}"
                )
                server.require_usable()
            raise ModelNotServed(f"the server did not load {name!r}: {error.message()}") from None


def unload_model(server: Server, name: str) -> None:
    """Have the server unload a model, and wait until it has, because the call itself returns at once.

    Raises:
        ModelNotServed: if the server refused, or has not unloaded the model in time.
    """
    from tritonclient.utils import InferenceServerException

    with calling(server) as client:
        try:
            client.unload_model(name, client_timeout=CALL_S)
            until = time.monotonic() + UNLOAD_S
            while _state(client, name) != "UNAVAILABLE":
                if time.monotonic() > until:
                    raise ModelNotServed(f"the server still has {name!r} {UNLOAD_S:g} s after it was to unload it")
                time.sleep(0.01)
        except InferenceServerException as error:
            raise ModelNotServed(f"the server did not unload {name!r}: {error.message()}") from None


def _state(client: Any, name: str) -> str:
    """Return a model's state in the server's index: `UNAVAILABLE` also for a model that it no longer lists."""
    entries = client.get_model_repository_index(client_timeout=CALL_S).models
    states = [str(entry.state) for entry in entries if entry.name == name]
    return next((state for state in states if state not in ("", "UNAVAILABLE")), "UNAVAILABLE")


def is_ready(server: Server, name: str) -> bool:
    """Return whether the server reports that the model is ready."""
    from tritonclient.utils import InferenceServerException

    with calling(server) as client:
        try:
            return bool(client.is_model_ready(name, client_timeout=CALL_S))
        except InferenceServerException:
            return False


def statistics(server: Server, name: str) -> Statistics:
    """Return the server's own statistics of a model."""
    with calling(server) as client:
        told = client.get_inference_statistics(name, client_timeout=CALL_S).model_stats[0]
    sums = told.inference_stats

    def seconds(part: str) -> float:
        return int(getattr(sums, part).ns) / 1e9

    return Statistics(
        images=int(told.inference_count),
        executions=int(told.execution_count),
        requests=int(sums.success.count),
        failures=int(sums.fail.count),
        queue_s=seconds("queue"),
        input_s=seconds("compute_input"),
        compute_s=seconds("compute_infer"),
        output_s=seconds("compute_output"),
    )


def server_version(server: Server) -> str:
    """Return the version of the Triton server."""
    with calling(server) as client:
        return str(client.get_server_metadata(client_timeout=CALL_S).version)


def served_config(server: Server, name: str) -> dict[str, Any]:
    """Return the configuration with which the server runs a model, in its JSON form."""
    with calling(server) as client:
        config: dict[str, Any] = client.get_model_config(name, as_json=True, client_timeout=CALL_S)["config"]
    return config


def session_of(server: Server, name: str) -> dict[str, str] | None:
    """Return what the Python backend's model reports that it loaded, read from the server's metrics.

    The result is None if the model reports nothing, or if nobody listens on the metrics port.
    """
    if server.endpoint.metrics is None:
        return None
    try:
        with urllib.request.urlopen(f"http://{server.endpoint.metrics}/metrics", timeout=CALL_S) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None
    for line in text.splitlines():
        if line.startswith(METRIC + "{") and line.endswith(" 1"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels.pop("model", None) == name:
                return labels
    return None
