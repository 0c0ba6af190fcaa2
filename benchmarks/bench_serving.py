"""What serving itself costs: `python -m benchmarks.bench_serving [MODEL]` prints the figures.

This is not a test, because server and clients share the cores.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from benchmarks.peers import paired_ratio
from harness.artefacts import ArtefactCache, default_folder
from harness.cases import Case, Duration
from harness.host.cores import set_threads
from harness.measure.clock import BatchesOfRounds, NextArguments
from harness.triton.clients import PROTOCOLS, SHARED_MEMORY, Traffic
from harness.triton.control import unload_model
from harness.triton.export import export_case
from harness.triton.host import ServedModel, serve
from harness.triton.overhead import in_process, measure_overhead
from harness.triton.served import measure_served
from models.catalog import find_spec, load_catalog
from selftests.triton.tritons import linear_model, running

PAIRS = 5
TURNS = 8
LOAD_S = 3.0


def clock(
    kind: str, target: Callable[..., None], next_arguments: NextArguments, batches: BatchesOfRounds | None = None
) -> list[float]:
    """Run the target without timing it, because the called functions take their own times."""
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
    return [1.0]


@dataclass(frozen=True)
class InProcess:
    """How many images this process answered, and how many a second."""

    images: int
    per_s: float


def in_process_rate(served: ServedModel, batch: int) -> InProcess:
    """Run the same file in this process, one batch after the other."""
    infer = in_process(served)
    images = np.concatenate(served.batches)[:batch]
    infer(images)
    began, done = perf_counter(), 0
    while perf_counter() - began < LOAD_S:
        infer(images)
        done += batch
    return InProcess(done, done / (perf_counter() - began))


def print_eight_clients(served: ServedModel) -> None:
    """Print what eight clients get over what the file gives in this process at the batch that forms, in turns.

    Client and server share the cores, so the processor time of an image is printed too: it says what is taken from the
    model.
    """
    protocols = (*PROTOCOLS, SHARED_MEMORY)
    rates: dict[str, list[float]] = {protocol: [] for protocol in protocols}
    alone: dict[str, list[float]] = {protocol: [] for protocol in protocols}
    for turn in range(TURNS):
        for protocol in protocols if turn % 2 else protocols[::-1]:
            load = measure_served(served, Traffic(protocol, "sync", 8), Duration(LOAD_S, None, 50), clock)
            assert load is not None
            began_s = process_time()
            here = in_process_rate(served, max(1, round(load.mean_batch)))
            cpu_ms = (process_time() - began_s) / here.images * 1e3
            rates[protocol].append(load.images_per_second)
            alone[protocol].append(here.per_s)
            print(
                f"{protocol}, 8 clients: {load.images_per_second:.1f} images/s in batches of {load.mean_batch:.1f}, in "
                f"process {here.per_s:.1f}; processor ms an image: clients {load.client_cpu_ms:.2f}, server "
                f"{load.server_cpu_ms or math.nan:.2f}, in process {cpu_ms:.2f}",
                flush=True,
            )
    for protocol in protocols:
        ratio, low, high = (100 * value for value in paired_ratio(rates[protocol], alone[protocol]))
        print(f"{protocol}, 8 clients: {ratio:.0f}% ({low:.0f} to {high:.0f}) of in process (at least 90%)")


def main(model: str) -> None:
    """Print what serving a model costs."""
    threads = set_threads()
    case = Case(model, "cpu", "fp32", 1, "onnxruntime")
    spec = find_spec(model, load_catalog())
    exported = export_case(
        case, spec, "random", ArtefactCache(default_folder()), threads, lambda phase: None
    )  # fmt: skip
    print(f"{model}: {' x '.join(map(str, spec.input.size))}, exported in {exported.export_s:.1f} s")
    started, ready = [], []
    for _ in range(PAIRS):
        began = perf_counter()
        with running() as server, tempfile.TemporaryDirectory() as folder:
            started.append(server.started_s)
            serve(linear_model(folder), server)
            ready.append(perf_counter() - began)
    print(f"server up in {statistics.median(started):.2f} s, with one ONNX model in {statistics.median(ready):.2f} s")
    with running() as server:
        served = serve(exported, server)
        print(f"{model} loaded in {served.load_s:.2f} s")
        for _ in range(PAIRS):
            found = measure_overhead(served, Duration(LOAD_S, None, 50), clock)
            print(
                f"p50 ms: in process {found.in_process_p50_ms:.2f}, added by gRPC {found.grpc_overhead_ms:.2f}, "
                f"HTTP {found.http_overhead_ms:.2f}, shared memory {found.shared_memory_overhead_ms:.2f}"
            )
        print_eight_clients(served)
        unload_model(server, served.name)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["fbnetc_100"]))
