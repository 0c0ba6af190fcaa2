"""Measures what serving adds to a model: the same file and ONNX Runtime settings, in this process and on a server.

The ways of asking are measured in turns, one request each, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

from harness.cases import Duration, wants_more
from harness.engines.onnxruntime import PROVIDERS
from harness.measure.clock import TimedRounds
from harness.measure.percentiles import least_rounds, percentile
from harness.triton.clients import GrpcClient, HttpClient, ImageBatch
from harness.triton.host import ServedModel
from harness.triton.shared_memory import SharedMemoryClient
from models.tasks.classify import Logits

WARMUP_TURNS = 5
IN_PROCESS = "in_process"
Infer = Callable[[ImageBatch], Logits]


@dataclass(frozen=True)
class Overhead:
    """What each way of serving adds to the median latency of one request at a time, over the same file in process.

    The ways are measured in turns. `shared_memory` is gRPC with images and answers in shared memory; it is None for a
    server that was not started here.
    """

    kind: ClassVar[str] = "overhead"

    rounds: int
    p50_missing_rounds: int
    in_process_p50_ms: float | None
    grpc_p50_ms: float | None
    grpc_overhead_ms: float | None
    http_p50_ms: float | None
    http_overhead_ms: float | None
    shared_memory_p50_ms: float | None
    shared_memory_overhead_ms: float | None


def measure_overhead(served: ServedModel, duration: Duration, timed: TimedRounds) -> Overhead | None:
    """Send one request at a time by each of the ways, and check that every answer is the model's own.

    Returns:
        The measurement, or None if timing is switched off.

    Raises:
        WrongAnswers: if an answer is not the model's own.
    """
    with ExitStack() as stack:
        ways: dict[str, Infer] = {IN_PROCESS: in_process(served)}
        clients = {"grpc": GrpcClient, "http": HttpClient}
        for name, opener in clients.items():
            client: Any = opener(served.server.endpoint, served.target)
            stack.callback(client.close)
            ways[name] = client.infer
        if served.server.pid is not None:  # the server is certain to be on this machine
            shared = SharedMemoryClient(served)
            stack.callback(shared.close)
            ways["shared_memory"] = shared.infer
        times_s: dict[str, list[float]] = {name: [] for name in ways}
        answers: dict[str, list[Logits]] = {name: [] for name in ways}

        def turn(index: int, keeps: bool) -> None:
            images = served.batches[index % len(served.batches)]
            first = index % len(ways)  # rotated: the way that comes first finds the caches of another process
            for name, infer in [*ways.items()][first:] + [*ways.items()][:first]:
                began = perf_counter()
                answer = infer(images)
                if keeps:
                    times_s[name].append(perf_counter() - began)
                    answers[name].append(answer)

        def turns() -> None:
            began, done = perf_counter(), 0
            while wants_more(duration, done, perf_counter() - began):
                turn(done, keeps=True)
                done += 1

        for index in range(WARMUP_TURNS):
            turn(index, keeps=False)
        rounds_s = timed("overhead", turns, lambda elapsed_s: None if times_s["grpc"] else ())
    for found in answers.values():
        served.require_own_answers(found)
    if not rounds_s:
        return None
    count = len(times_s["grpc"])
    missing = max(0, least_rounds(50) - count)
    p50_ms = {name: None if missing else percentile(found, 50) * 1e3 for name, found in times_s.items()}
    base = p50_ms[IN_PROCESS]

    def added_ms(name: str) -> float | None:
        value = p50_ms.get(name)
        return None if value is None or base is None else value - base

    return Overhead(
        rounds=count,
        p50_missing_rounds=missing,
        in_process_p50_ms=base,
        grpc_p50_ms=p50_ms["grpc"],
        grpc_overhead_ms=added_ms("grpc"),
        http_p50_ms=p50_ms["http"],
        http_overhead_ms=added_ms("http"),
        shared_memory_p50_ms=p50_ms.get("shared_memory"),
        shared_memory_overhead_ms=added_ms("shared_memory"),
    )


def in_process(served: ServedModel) -> Infer:
    """Return a function that runs the served file in this process, as the Python backend runs it."""
    import onnxruntime

    artefact = served.exported.artefact
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = artefact.threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = PROVIDERS[served.case.device.partition(":")[0]]
    given = provider if artefact.gpu is None else (provider, {"device_id": artefact.gpu})
    session = onnxruntime.InferenceSession(str(artefact.file), options, providers=[given])
    name = session.get_inputs()[0].name

    def infer(images: ImageBatch) -> Logits:
        (logits,) = session.run(None, {name: images})
        found: Logits = logits
        return found

    return infer
