"""A Triton server that was started here or attached to, in one type, so that its users cannot tell which it is.

The type covers the server's process, ports, log and end. Models are handled elsewhere.
"""

from __future__ import annotations

import http.client
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.triton.installation import Installation, Serving
from harness.triton.ports import LOOPBACK, listening_ports, require_free, reserve_port
from harness.triton.process import Process, ServerFailed, shared_memory_prefix

READY_S = 30.0
EXIT_TIMEOUT_S = 5
DEFAULT_PORTS = (8000, 8001, 8002)  # HTTP, gRPC, metrics
# What a request can do to a server and to its user's files, beyond asking for answers. Loading a model runs its code.
RESTRICTED = "model-repository,shared-memory,trace,logging"
TOKEN_HEADER = "visionmark-token"
_GRPC_HEADER = "triton-grpc-protocol-"  # before the name of every header that the gRPC server checks
_POLL_S = 0.01


@dataclass(frozen=True)
class Endpoint:
    """The addresses on which a server listens, each as `host:port`."""

    http: str
    grpc: str
    metrics: str


class Server:
    """A server that is up.

    Attributes:
        endpoint: the addresses on which it listens.
        token_header: what a gRPC call has to send along to load models or map shared memory, None for nothing.
        repository: the folder from which its models are loaded, None if that must not be written here.
        shared_memory_prefix: the prefix of every shared memory region of the server and of its clients, which are
            cleaned up with it.
        started_s: seconds from its start until it was ready, None for a server that was running already.
        exit_code: the exit code of its process, None until that is stopped.
        spoilt: why it must not be used any more although it answers, None if it may be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        repository: Path | None = None,
        process: Process | None = None,
        token: str | None = None,
    ) -> None:
        """Take over a process, or None for a server that somebody else runs.

        Args:
            endpoint: the addresses on which the server listens.
            repository: the folder from which its models are loaded, None if that must not be written here.
            process: the server's process.
            token: what it wants to be told before it loads a model, None if it asks for nothing.
        """
        self.endpoint = endpoint
        self.token_header = None if token is None else {_GRPC_HEADER + TOKEN_HEADER: token}
        self.repository = repository
        self.shared_memory_prefix = process.prefix if process else shared_memory_prefix()
        self.started_s: float | None = None
        self.exit_code: int | None = None
        self._process = process
        self._is_stopped = False
        self._mark = secrets.token_hex(4)
        self.spoilt: str | None = None

    @property
    def pid(self) -> int | None:
        """The process id of tritonserver itself, None for a server that somebody else runs."""
        return self._process.pid if self._process else None

    def processes(self) -> tuple[int, ...]:
        """Return the ids of tritonserver and of its backends' processes, none for a server that somebody else runs."""
        import psutil

        if self.pid is None:
            return ()
        try:
            return (self.pid, *(child.pid for child in psutil.Process(self.pid).children(recursive=True)))
        except psutil.NoSuchProcess:  # it has died, which the next request tells
            return (self.pid,)

    def processor_s(self) -> float | None:
        """Return the processor time of these processes so far, in seconds; None where one of them cannot be read."""
        import psutil

        try:
            times = [psutil.Process(pid).cpu_times() for pid in self.processes()]
        except psutil.Error:
            return None
        return sum(one.user + one.system for one in times) if times else None

    def own_name(self, model: str) -> str:
        """Return the name under which a model is uploaded, which no other user of the server has."""
        return f"visionmark_{model}_{self._mark}"

    def trouble(self, patience_s: float = 0.0) -> str | None:
        """Return why this server can no longer be used, or None while it can.

        Args:
            patience_s: the seconds for which to look again, for a server that is about to end.
        """
        until = time.monotonic() + patience_s
        while not (found := self._trouble()) and time.monotonic() < until:
            time.sleep(_POLL_S)
        return found

    def _trouble(self) -> str | None:
        if self._is_stopped:
            return "the server was stopped"
        if self._process is not None and not self._process.is_running():
            return f"tritonserver (pid {self.pid}) {self._process.how_it_ended()}\n{self.log_tail()}"
        return self.spoilt

    def spoil(self, reason: str) -> None:
        """Record that the server answers but must not be used any more, such as while a load hangs in it."""
        self.spoilt = reason

    def require_usable(self) -> None:
        """Raise an error if the server can no longer be used.

        Raises:
            ServerFailed: if there is trouble; the message says what it is.
        """
        trouble = self.trouble()
        if trouble:
            raise ServerFailed(trouble)

    def log_tail(self) -> str:
        """Return the last lines of the server's log, empty if somebody else runs the server."""
        return self._process.log_tail() if self._process else ""

    def stop(self, fast: bool = False) -> None:
        """End the server and all that belongs to it, within a few seconds.

        Nothing is done to a server that somebody else runs.

        Args:
            fast: whether to kill the server rather than ask it to end.
        """
        if self._process is not None and not self._is_stopped:
            self.exit_code = self._process.stop(fast or self.spoilt is not None)
        self._is_stopped = True


def start_server(
    installation: Installation,
    serving: Serving | None,
    scratch: Path,
    repository: Path | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Server:
    """Start a server on the loopback, with no model loaded, and wait until it is ready.

    Args:
        installation: the installation to start.
        serving: the Python of its Python backend, None if it has no such backend.
        scratch: a folder for this server alone, which is removed when the server ends.
        repository: the folder of models, None for one inside `scratch`.
        grpc_port: the gRPC port that was asked for, None for a free one.
        metrics_port: the port of its metrics that was asked for, None for a free one.
        environment: the environment variables that the server inherits.

    Raises:
        ServerFailed: if the server ended or was not ready in time; the message has the tail of its log.
        PortTaken: if somebody listens on a port that was asked for.
    """
    ports = [require_free(asked) if asked else reserve_port() for asked in (None, grpc_port, metrics_port)]
    token = secrets.token_hex(16)
    models = repository or scratch / "models"
    models.mkdir(parents=True, exist_ok=True)
    prefix = shared_memory_prefix()
    command = [
        str(installation.binary),
        f"--model-repository={models}",
        "--model-control-mode=explicit",
        "--strict-readiness=false",  # otherwise one model that does not load would keep it from ever being ready
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        "--allow-gpu-metrics=false",
        *_restrictions(token),
        *(f"--{kind}-address={LOOPBACK}" for kind in ("http", "grpc", "metrics")),
        *(f"--{kind}-port={port}" for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True)),
    ]
    if installation.backends is not None:
        command.append(f"--backend-directory={_backend_folder(installation, scratch)}")
    if installation.caches is not None:
        command.append(f"--cache-directory={installation.caches}")
    began = time.perf_counter()
    process = Process(
        command, _server_environment(installation, serving, environment), prefix, scratch / "server.log", scratch
    )
    server = Server(Endpoint(*(f"{LOOPBACK}:{port}" for port in ports)), models, process, token)
    try:
        _wait_until_ready(server, set(ports))
    except BaseException:
        server.stop(fast=True)
        raise
    server.started_s = time.perf_counter() - began
    process.forget(token)
    return server


def _restrictions(token: str) -> list[str]:
    """Return the server's arguments by which only who knows the token may load models, map memory or move its log."""
    return [
        f"--{kind}={RESTRICTED}:{TOKEN_HEADER}={token}" for kind in ("http-restricted-api", "grpc-restricted-protocol")
    ]


def attach_server(host: str, http_port: int, grpc_port: int, metrics_port: int) -> Server:
    """Return a server that somebody else runs.

    Raises:
        ServerFailed: if nobody answers there, or if the server is not live.
    """
    server = Server(Endpoint(f"{host}:{http_port}", f"{host}:{grpc_port}", f"{host}:{metrics_port}"))
    if not is_live(server.endpoint.http, timeout_s=5.0):
        raise ServerFailed(f"no Triton server is live at http://{server.endpoint.http}; start it, or drop --triton-url")
    return server


def is_live(address: str, timeout_s: float = 1.0) -> bool:
    """Return whether a server answers that it is live, over a connection that is closed again."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("GET", "/v2/health/live", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_until_ready(server: Server, ports: set[int], seconds: float = READY_S) -> None:
    """Wait until the server's own process is alive, listens on all its ports itself, and answers that it is live."""
    assert server.pid is not None
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        server.require_usable()
        if ports <= listening_ports(server.pid) and is_live(server.endpoint.http):
            return
        time.sleep(_POLL_S)
    raise ServerFailed(f"tritonserver (pid {server.pid}) was not ready after {seconds:.0f} s\n{server.log_tail()}")


def _backend_folder(installation: Installation, scratch: Path) -> Path:
    """Return a folder of backends with the stub beside the Python backend, where Triton looks for it."""
    assert installation.backends is not None
    if installation.stub is None or installation.stub.parent == installation.backends / "python":
        return installation.backends
    linked = scratch / "backends"
    for backend in installation.backends.iterdir():
        (linked / backend.name).mkdir(parents=True)
        for part in backend.iterdir():
            if part.name != "__pycache__":
                (linked / backend.name / part.name).symlink_to(part)
    (linked / "python" / installation.stub.name).symlink_to(installation.stub)
    return linked


def _server_environment(
    installation: Installation, serving: Serving | None, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment in which the stub finds its own Python, library and packages, and nobody else's."""
    made = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if installation.python is not None and serving is not None:
        made["PATH"] = f"{installation.python.parent}:{made.get('PATH', '')}"
        made["LD_LIBRARY_PATH"] = ":".join(filter(None, (serving.library_folder, made.get("LD_LIBRARY_PATH", ""))))
    return made
