"""Measures what serving adds to a model: the same file and ONNX Runtime settings, in this process and on a server.

The ways of asking are measured in turns, one request each, so that a machine that slows down slows all of them. The
order changes from turn to turn so that each way comes right after each other equally often. Between the ways, outside
the clock, the kernel is asked how long the threads of all that take part have waited for a core: on a machine that
others use, each hand-over from client to server to backend and back costs such a wait, and in process there is none.
The server is asked what it counted for the request, too, so that the added time is told hop by hop.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any, ClassVar

from harness.cases import Duration, wants_more
from harness.engines.onnxruntime import PROVIDERS
from harness.host.pressure import read_threads, waited_ms
from harness.measure.clock import TimedRounds
from harness.measure.percentiles import least_rounds, percentile
from harness.triton.answers import rows_of_outputs
from harness.triton.clients import GrpcClient, HttpClient, ImageBatch
from harness.triton.host import ServedModel
from harness.triton.readings import Statistics, statistics_of_next
from harness.triton.readings import statistics as read_statistics
from harness.triton.shared_memory import SharedMemoryClient
from harness.triton.turns import WARMUP_TURNS, balanced_orders, p10_ms, paired_difference, wants_another_turn
from models.tasks.classify import Logits

IN_PROCESS = "in_process"
SERVED_WAYS = ("grpc", "http", "shared_memory")
HOPS = ("transport", "queue", "input", "compute", "output")
Infer = Callable[[ImageBatch], Logits]
Times = dict[str, list[float]]
Waits = Mapping[str, Sequence[float | None]]
Hops = Mapping[str, Sequence[Mapping[str, float] | None]]


@dataclass(frozen=True)
class Overhead:
    """What each way of serving adds to the latency of one request at a time, over the same file in process.

    The ways are measured in turns. An overhead is the median of the differences of a turn, with its 95% interval
    (`low`, `high`). Its verdict is `adds` or `saves`, or `cannot tell` where the interval is wider than the difference.
    `p10` is what a way takes when nothing else is in the way, and `overhead_p10` the difference of these.
    `runqueue_ms` is how long the threads of this process, of the server and of its backends waited for a core, all of
    them together, in the mean of a request; None where the kernel does not tell, or the server was not started here.
    The hops of a request are medians of its parts: `transport` is what passes outside the server's core (encoding,
    sending, receiving, decoding); `queue`, `input`, `compute` and `output` are counted by the server, `compute` with
    the way to the backend's process and back. `costliest` names the hop that adds most and `costliest_ms` is what it
    adds: of `compute` only what it takes longer than the same file in process. All are None where the server was not
    started here.
    `shared_memory` is gRPC with images and answers in shared memory; it is None for a server that was not started here.
    """

    kind: ClassVar[str] = "overhead"

    rounds: int
    p50_missing_rounds: int
    in_process_p50_ms: float | None
    in_process_p10_ms: float | None
    in_process_runqueue_ms: float | None
    grpc_p50_ms: float | None
    grpc_p10_ms: float | None
    grpc_runqueue_ms: float | None
    grpc_overhead_ms: float | None
    grpc_overhead_low_ms: float | None
    grpc_overhead_high_ms: float | None
    grpc_overhead_p10_ms: float | None
    grpc_verdict: str | None
    grpc_transport_ms: float | None
    grpc_queue_ms: float | None
    grpc_input_ms: float | None
    grpc_compute_ms: float | None
    grpc_output_ms: float | None
    grpc_costliest: str | None
    grpc_costliest_ms: float | None
    http_p50_ms: float | None
    http_p10_ms: float | None
    http_runqueue_ms: float | None
    http_overhead_ms: float | None
    http_overhead_low_ms: float | None
    http_overhead_high_ms: float | None
    http_overhead_p10_ms: float | None
    http_verdict: str | None
    http_transport_ms: float | None
    http_queue_ms: float | None
    http_input_ms: float | None
    http_compute_ms: float | None
    http_output_ms: float | None
    http_costliest: str | None
    http_costliest_ms: float | None
    shared_memory_p50_ms: float | None
    shared_memory_p10_ms: float | None
    shared_memory_runqueue_ms: float | None
    shared_memory_overhead_ms: float | None
    shared_memory_overhead_low_ms: float | None
    shared_memory_overhead_high_ms: float | None
    shared_memory_overhead_p10_ms: float | None
    shared_memory_verdict: str | None
    shared_memory_transport_ms: float | None
    shared_memory_queue_ms: float | None
    shared_memory_input_ms: float | None
    shared_memory_compute_ms: float | None
    shared_memory_output_ms: float | None
    shared_memory_costliest: str | None
    shared_memory_costliest_ms: float | None

    @classmethod
    def of(
        cls, times_s: Times, waits_ms: Waits = MappingProxyType({}), hops_s: Hops = MappingProxyType({})
    ) -> Overhead:
        """Return the measurement for what each way took, turn by turn.

        Args:
            times_s: the seconds of each way.
            waits_ms: the milliseconds for which threads waited for a core, None where they are not known.
            hops_s: the seconds of each hop of the served ways, None where the server did not tell.
        """
        base_s = times_s[IN_PROCESS]
        missing = max(0, least_rounds(50) - len(base_s))
        found: dict[str, float | str | None] = {
            f"{IN_PROCESS}_p50_ms": None if missing else percentile(base_s, 50) * 1e3,
            f"{IN_PROCESS}_p10_ms": None if missing else p10_ms(base_s),
            f"{IN_PROCESS}_runqueue_ms": _mean_wait_ms(waits_ms.get(IN_PROCESS, ())),
        }
        for way in SERVED_WAYS:
            found |= _numbers_of(way, None if missing else times_s.get(way), base_s)
            found[f"{way}_runqueue_ms"] = _mean_wait_ms(waits_ms.get(way, ()))
            found |= _hops_of(way, () if missing else hops_s.get(way, ()), base_s)
        return cls(len(base_s), missing, **found)  # type: ignore[arg-type]  # keys and fields are held by a test


def _mean_wait_ms(waits_ms: Sequence[float | None]) -> float | None:
    """Return the mean wait of a request, None if there is none or if one of them is not known."""
    known = [waited for waited in waits_ms if waited is not None]
    return statistics.fmean(known) if known and len(known) == len(waits_ms) else None


def _hops_of(
    way: str, hops_s: Sequence[Mapping[str, float] | None], base_s: Sequence[float]
) -> dict[str, float | str | None]:
    """Return the hops of one way, all None if the server did not tell them of every request."""
    told = [hops for hops in hops_s if hops is not None]
    if not told or len(told) != len(hops_s):
        names = (*(f"{hop}_ms" for hop in HOPS), "costliest", "costliest_ms")
        return {f"{way}_{name}": None for name in names}
    medians_ms = {hop: 1e3 * statistics.median(hops[hop] for hops in told) for hop in HOPS}
    beyond = 1e3 * statistics.median(hops["compute"] - base for hops, base in zip(told, base_s, strict=True))
    adds_ms = medians_ms | {"compute": beyond}
    costliest = max(adds_ms, key=lambda hop: adds_ms[hop])
    found: dict[str, float | str | None] = {f"{way}_{hop}_ms": value for hop, value in medians_ms.items()}
    return found | {f"{way}_costliest": costliest, f"{way}_costliest_ms": adds_ms[costliest]}


def hops_of(took_s: float, counted: Statistics | None) -> dict[str, float] | None:
    """Return the seconds of each hop of a request.

    Args:
        took_s: the seconds that its client took.
        counted: what the server counted for it, None where it does not tell.
    """
    if counted is None:
        return None
    return {
        "transport": took_s - counted.total_s,
        "queue": counted.queue_s,
        "input": counted.input_s,
        "compute": counted.compute_s,
        "output": counted.output_s,
    }


def _numbers_of(way: str, way_s: list[float] | None, base_s: list[float]) -> dict[str, float | str | None]:
    """Return the fields of one way, all None if it was not measured or too short."""
    parts = ("p50_ms", "p10_ms", "overhead_ms", "overhead_low_ms", "overhead_high_ms", "overhead_p10_ms", "verdict")
    if way_s is None:
        return {f"{way}_{part}": None for part in parts}
    found = paired_difference(way_s, base_s)
    values = (
        *(percentile(way_s, 50) * 1e3, p10_ms(way_s)),
        *(found.median_ms, found.low_ms, found.high_ms, p10_ms(way_s) - p10_ms(base_s), found.verdict),
    )
    return {f"{way}_{part}": value for part, value in zip(parts, values, strict=True)}


def measure_overhead(served: ServedModel, duration: Duration, timed: TimedRounds) -> Overhead | None:
    """Send one request at a time by each of the ways, and check that every answer is the model's own.

    Args:
        served: the served model.
        duration: the least time and number of turns, or exactly how many (`batches`). Beyond the least, turns go on
            until the differences are known to 0.3 ms, to 200 at most. The greatest time ends them in any case.
        timed: the clock.

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
            shared = SharedMemoryClient(served.server, served.target, served.batches[0])
            stack.callback(shared.close)
            ways["shared_memory"] = shared.infer
        times_s: Times = {name: [] for name in ways}
        waits_ms: dict[str, list[float | None]] = {name: [] for name in ways}
        hops_s: dict[str, list[Mapping[str, float] | None]] = {name: [] for name in SERVED_WAYS}
        answers: dict[str, list[Logits]] = {name: [] for name in ways}
        names, orders = list(ways), balanced_orders(len(ways))
        is_ours = served.server.pid is not None
        processes: list[int | str] = ["self", *served.server.processes()]

        def turn(index: int, keeps: bool) -> None:
            images = served.batches[index % len(served.batches)]
            counted = read_statistics(served.server, served.name) if is_ours else None
            before = read_threads(processes)
            for name in (names[place] for place in orders[index % len(orders)]):
                began = perf_counter()
                answer = ways[name](images)
                took_s = perf_counter() - began
                after = read_threads(processes)  # in warm-up as well, so that it leaves the same behind
                next_counted = None
                if counted is not None:  # in process as well, so that it leaves the same behind
                    if name != IN_PROCESS:
                        next_counted = statistics_of_next(served.server, served.name, counted)
                    counted = read_statistics(served.server, served.name)
                if keeps:
                    times_s[name].append(took_s)
                    waits_ms[name].append(waited_ms(before, after) if is_ours else None)
                    answers[name].append(answer)
                    if name != IN_PROCESS:
                        hops_s[name].append(hops_of(took_s, next_counted))
                before = read_threads(processes)

        def turns() -> None:
            began, done = perf_counter(), 0
            while wants_turn(duration, done, perf_counter() - began, times_s, len(orders)):
                turn(done, keeps=True)
                done += 1

        for index in range(WARMUP_TURNS):
            turn(index, keeps=False)
        rounds_s = timed("overhead", turns, lambda elapsed_s: None if times_s["grpc"] else ())
    for found in answers.values():
        served.require_own_answers(found)
    return Overhead.of(times_s, waits_ms, hops_s) if rounds_s else None


def wants_turn(duration: Duration, done: int, elapsed_s: float, times_s: Times, orders: int) -> bool:
    """Return whether one more turn is due after `done` turns in `elapsed_s` seconds."""
    if duration.batches is not None:
        return done < duration.batches and (duration.max_s is None or elapsed_s < duration.max_s or done == 0)
    if wants_more(duration, done, elapsed_s):
        return True
    if duration.max_s is not None and elapsed_s >= duration.max_s:
        return False
    base_s = times_s[IN_PROCESS]
    return wants_another_turn(
        done, orders, [paired_difference(way_s, base_s) for way, way_s in times_s.items() if way != IN_PROCESS]
    )


def in_process(served: ServedModel) -> Infer:
    """Return a function that runs the served file in this process, as its backend runs it."""
    import onnxruntime

    artefact = served.exported.artefact
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = artefact.threads, 1
    if served.evidence["backend"] == "python":  # the other backend leaves this to ONNX Runtime
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = PROVIDERS[served.case.device.partition(":")[0]]
    given = provider if artefact.gpu is None else (provider, {"device_id": artefact.gpu})
    session = onnxruntime.InferenceSession(str(artefact.file), options, providers=[given])
    name, outputs = session.get_inputs()[0].name, [output for output, _ in artefact.outputs]

    def infer(images: ImageBatch) -> Logits:
        return rows_of_outputs(session.run(outputs, {name: images}))

    return infer
