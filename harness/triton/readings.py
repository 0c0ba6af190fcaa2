"""Reads what a server reports of itself and of its models: statistics, configuration, and the session of a model."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from harness.triton.control import CALL_S, calling
from harness.triton.server import Server

METRIC = "visionmark_session"
_COUNTED_S = 1.0


class NoSession(RuntimeError):
    """What a model's session is cannot be read; the message says why."""


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
        total_s: seconds from when the server had a request until it sent the answer, summed over the requests.
    """

    images: int
    executions: int
    requests: int
    failures: int
    queue_s: float
    input_s: float
    compute_s: float
    output_s: float
    total_s: float

    def since(self, before: Statistics) -> Statistics:
        """Return what was counted after the reading `before`, up to this one."""
        names = self.__dataclass_fields__
        return Statistics(**{name: getattr(self, name) - getattr(before, name) for name in names})

    def mean_ms(self, part: str) -> float:
        """Return the mean milliseconds per request of `queue`, `input`, `compute` or `output`."""
        return 1e3 * float(getattr(self, f"{part}_s")) / max(1, self.requests)


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
        total_s=seconds("success"),
    )


def statistics_of_next(
    server: Server, name: str, before: Statistics, clock: Callable[[], float] = monotonic
) -> Statistics | None:
    """Return what the server counted for the one request that was answered since `before`.

    An answer is sent before it is counted, so that the server is asked until it has counted it.

    Args:
        server: the server.
        name: the model's name on it.
        before: the reading before the request was sent.
        clock: tells the time in seconds.

    Returns:
        What was counted, or None if after a second it is not one request.
    """
    until = clock() + _COUNTED_S
    while True:
        found = statistics(server, name).since(before)
        if found.requests >= 1 or clock() >= until:
            return found if found.requests == 1 else None


def server_version(server: Server) -> str:
    """Return the version of the Triton server."""
    with calling(server) as client:
        return str(client.get_server_metadata(client_timeout=CALL_S).version)


def served_config(server: Server, name: str) -> dict[str, Any]:
    """Return the configuration with which the server runs a model, in its JSON form."""
    with calling(server) as client:
        config: dict[str, Any] = client.get_model_config(name, as_json=True, client_timeout=CALL_S)["config"]
    return config


def session_of(server: Server, name: str) -> dict[str, str]:
    """Return what the Python backend's model reports that it loaded, read from the server's metrics.

    Raises:
        NoSession: if nobody answers at the metrics port, or if no model of that name reports there.
    """
    text = metrics_of(server)
    for line in text.splitlines():
        if line.startswith(METRIC + "{") and line.endswith(" 1"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels.pop("model", None) == name:
                return labels
    raise NoSession(f"the metrics at {server.endpoint.metrics} have no session of {name!r}")


def metrics_of(server: Server) -> str:
    """Return the server's metrics in the text form of Prometheus.

    Raises:
        NoSession: if nobody answers at the metrics port.
    """
    try:
        with urllib.request.urlopen(f"http://{server.endpoint.metrics}/metrics", timeout=CALL_S) as answer:
            text: str = answer.read().decode()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise NoSession(
            f"no metrics answer at {server.endpoint.metrics} ({reason}); give their port with --metrics-port"
        ) from None
    return text


def has_gpus(server: Server) -> bool:
    """Return whether the server reports a GPU among its metrics; False also where its metrics do not answer."""
    try:
        return "nv_gpu_" in metrics_of(server)
    except NoSession:
        return False
