"""What serving itself costs: `python -m benchmarks.bench_serving [MODEL]` prints the figures.

This is not a test, because server and clients share the cores.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter

import numpy as np

from harness.artefacts import ArtefactCache, default_folder
from harness.cases import Case, Duration
from harness.host.cores import set_threads
from harness.measure.clock import NextArguments
from harness.triton.clients import Traffic
from harness.triton.control import unload_model
from harness.triton.export import export_case
from harness.triton.host import serve
from harness.triton.overhead import in_process, measure_overhead
from harness.triton.served import measure_served
from models.catalog import find_spec, load_catalog
from selftests.triton.tritons import linear_model, running

PAIRS = 5
LOAD_S = 3.0


def clock(kind: str, target: Callable[..., None], next_arguments: NextArguments) -> list[float]:
    """Run the target without timing it, because the called functions take their own times."""
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
    return [1.0]


def in_process_rate(served, batch):
    """Return the images per second of the same file in this process, one batch after the other."""
    infer = in_process(served)
    images = np.concatenate(served.batches)[:batch]
    infer(images)
    began, done = perf_counter(), 0
    while perf_counter() - began < LOAD_S:
        infer(images)
        done += batch
    return done / (perf_counter() - began)


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
        for protocol in ("grpc", "http"):
            for _ in range(PAIRS):
                load = measure_served(served, Traffic(protocol, "sync", 8), Duration(LOAD_S, None, 50), clock)
                alone = in_process_rate(served, max(1, round(load.mean_batch)))
                print(
                    f"{protocol}, 8 clients: {load.images_per_second:.1f} images/s in batches of "
                    f"{load.mean_batch:.1f}; in process {alone:.1f}: {100 * load.images_per_second / alone:.0f}%"
                )
        unload_model(server, served.name)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["fbnetc_100"]))
