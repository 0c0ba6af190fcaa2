"""Loads and unloads a server's models.

Every call has a deadline, because a load can hang in the server for ever: it does so for a model without its
`model.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from harness.triton.clients import CHANNEL
from harness.triton.repository import ModelFiles, is_supplied, named, upload, write_model
from harness.triton.server import Server

LOAD_S = 120.0
CALL_S = 10.0
UNLOAD_S = 30.0
_NO_BACKEND = "unable to find backend library"
_NO_GPU = re.compile(r"server does not support GPUs|unsupported gpu id")


class ModelNotServed(RuntimeError):
    """The server did not load or unload a model; the message quotes the server."""


class NoBackend(ModelNotServed):
    """The server has none of the backends that can run the model's file, or not the GPU for it."""


@dataclass(frozen=True)
class Loaded:
    """What a server serves for a case.

    Attributes:
        name: the model's name on the server.
        backend: the backend that runs our files, None for a model that was there already and is served as it is.
        stays: whether the model is somebody else's on a server that somebody else runs, so that it is not unloaded.
    """

    name: str
    backend: str | None
    stays: bool


@contextmanager
def calling(server: Server) -> Iterator[Any]:
    """Open a gRPC connection for control calls, and close it at the end."""
    import tritonclient.grpc as module

    client = module.InferenceServerClient(server.endpoint.grpc, channel_args=CHANNEL)
    try:
        yield client
    finally:
        client.close()


def load_model(server: Server, artefact: ModelFiles, deadline_s: float = LOAD_S) -> Loaded:
    """Have the server serve a model, with the first of the model's backends that the server has.

    A model that the user supplies is served as it is. On a server that somebody else runs that is a model of this name
    that is ready: it is neither loaded nor written over. Ours has a name of its own there, which no other model has.

    Raises:
        NoBackend: if the server has no backend for the file, or not the GPU.
        ModelNotServed: if the server refused the model for another reason.
        ServerFailed: if the load hung; the server must not be used any more.
        RepositoryError: if the model's folder cannot be written.
    """
    if server.repository is None:
        if is_ready(server, artefact.name):
            return Loaded(artefact.name, None, stays=True)
        artefact = named(artefact, server.own_name(artefact.name))
    elif is_supplied(server.repository, artefact.name):
        request_load(server, artefact.name, deadline_s)
        return Loaded(artefact.name, None, stays=False)
    refusals = []
    for backend in artefact.backends():
        try:
            if server.repository is not None:
                write_model(server.repository, artefact, backend)
                request_load(server, artefact.name, deadline_s)
            else:
                _upload(server, artefact, backend, deadline_s)
        except ModelNotServed as refused:
            if _NO_GPU.search(str(refused)):
                words = " ".join(str(refused).split()).rstrip(";: ")
                raise NoBackend(f"the server has no such GPU: {words}; use --device cpu") from None
            if _NO_BACKEND not in str(refused):
                raise
            refusals.append(backend)
        else:
            return Loaded(artefact.name, backend, stays=False)
    raise NoBackend(f"the server has no backend for {artefact.file.name}: none of {', '.join(refusals)}")


def _upload(server: Server, artefact: ModelFiles, backend: str, deadline_s: float) -> None:
    """Load a model from files that are sent along. If that is broken off, the server is asked to unload it again."""
    try:
        request_load(server, artefact.name, deadline_s, *upload(artefact, backend))
    except ModelNotServed:
        raise
    except BaseException:  # also an interruption: nobody else would unload it
        with suppress(ModelNotServed):
            request_unload(server, artefact.name)
        raise


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
            client.load_model(name, headers=server.token_header, config=config, files=files, client_timeout=deadline_s)
        except InferenceServerException as error:
            server.require_usable()
            if "DEADLINE_EXCEEDED" in str(error.status()):
                server.spoil(
                    f"loading model {name!r} did not end within {deadline_s:g} s (a folder without its model.py does "
                    f"that); the server is given up\n{server.log_tail()}"
                )
                server.require_usable()
            raise ModelNotServed(f"the server did not load {name!r}: {error.message()}") from None


def request_unload(server: Server, name: str) -> None:
    """Ask the server to unload a model; the call returns before it has.

    Raises:
        ModelNotServed: if the server refused.
    """
    from tritonclient.utils import InferenceServerException

    with calling(server) as client:
        try:
            client.unload_model(name, headers=server.token_header, client_timeout=CALL_S)
        except InferenceServerException as error:
            raise ModelNotServed(f"the server did not unload {name!r}: {error.message()}") from None


def unload_model(server: Server, name: str) -> None:
    """Have the server unload a model, and wait until it has.

    Raises:
        ModelNotServed: if the server refused, or has not unloaded the model in time.
    """
    from tritonclient.utils import InferenceServerException

    request_unload(server, name)
    with calling(server) as client:
        try:
            until = time.monotonic() + UNLOAD_S
            while _state(client, server, name) != "UNAVAILABLE":
                if time.monotonic() > until:
                    raise ModelNotServed(f"the server still has {name!r} {UNLOAD_S:g} s after it was to unload it")
                time.sleep(0.01)
        except InferenceServerException as error:
            raise ModelNotServed(f"the server does not say whether it unloaded {name!r}: {error.message()}") from None


def _state(client: Any, server: Server, name: str) -> str:
    """Return a model's state in the server's index: `UNAVAILABLE` also for a model that it no longer lists."""
    entries = client.get_model_repository_index(headers=server.token_header, client_timeout=CALL_S).models
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
