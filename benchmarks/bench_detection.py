"""What a detector gains on the engines, and whether its rows match each library's own speed: in `make bench-harness`.

The figures are printed and nothing is asserted. The compared programs take turns in one process. All of them run the
network up to its raw heads. What evaluating a detector takes is in `benchmarks.bench_coco`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_engines import (
    CATALOG,
    Window,
    bare_session,
    compare_engines,
    in_turns,
    open_case,
    print_comparisons,
    suite_window,
)
from models.catalog import find_spec

MODEL, BATCH = "ssd_mobilenet_v1_075", 1
# What the best proven row should gain over the module in eager mode.
LEAST_GAIN = 4.0
# The rows that may be the fastest on a CPU.
ROWS: list[tuple[str, str]] = [
    *(("fp32", engine) for engine in ("trace", "onnxruntime", "openvino")),
    ("bf16", "openvino"),
    *(("int8", engine) for engine in ("onnxruntime", "openvino")),
]


def bare_request(cache: Path, batch: int) -> Window:
    """Return a function that runs an OpenVINO request in a plain loop, on the file that the suite converted."""
    import openvino

    (path,) = cache.glob("*/model.xml")
    core = openvino.Core()
    graph = core.read_model(path)
    height, width = find_spec(MODEL, CATALOG).input.size
    graph.reshape([batch, 3, height, width])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()
    feeds = [openvino.Tensor(torch.randn(batch, 3, height, width).numpy()) for _ in range(4)]

    def run(count: int) -> None:
        for index in range(count):
            request.infer([feeds[index % 4]], share_outputs=True)

    return run


def compare_with_bare(engine: str, bare: Callable[[Path, int], Window]) -> str:
    """Compare the suite's row of an engine with a plain loop over a session of the same file."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        prepared = open_case(stack, Path(folder), MODEL, "fp32", BATCH, engine)
        found = in_turns({"suite": suite_window(prepared), "bare": bare(Path(folder), BATCH)})
    return (
        f"{MODEL} bs{BATCH} {engine}: {BATCH / found['suite']:.1f} images/s over a bare session's "
        f"{BATCH / found['bare']:.1f} = {found['bare'] / found['suite']:.3f} (0.97 to 1.03)"
    )


COMPARISONS: dict[str, list[Callable[[], Any]]] = {
    "gain": [partial(compare_engines, MODEL, BATCH, {"any": LEAST_GAIN}, ROWS)],
    "onnxruntime": [partial(compare_with_bare, "onnxruntime", bare_session)],
    "openvino": [partial(compare_with_bare, "openvino", bare_request)],
}


if __name__ == "__main__":
    print_comparisons(COMPARISONS)
