"""What the engines gain, and whether the suite's rows match each library's own speed: part of `make bench-harness`.

The figures are printed and nothing is asserted. The compared programs take turns of some tenths of a second, because
the speed of a shared machine drifts by more than the differences.
"""

from __future__ import annotations

import importlib.metadata
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import Case
from harness.host.cores import set_threads
from harness.proof import Prepared, References, prepare
from models.build import build_module
from models.catalog import find_spec, load_catalog

CATALOG = load_catalog()
MODELS = ("fbnetc_100", "resnet50")
BATCHES = (1, 16)
TURNS = 12
TURN_S = 0.4
APP_S, APP_TURNS = 3, 5
Window = Callable[[int], None]


def open_case(stack: ExitStack, cache: Path, model: str, precision: str, batch: int, engine: str) -> Prepared:
    """Prepare a case and require its proof. The case is closed together with the stack."""
    spec = find_spec(model, CATALOG)
    artefacts = Artefacts(ArtefactCache(cache), lambda: generated_calibration(spec))
    case = Case(model, "cpu", precision, batch, engine)
    prepared = prepare(case, spec, "random", References(spec, "random"), artefacts=artefacts)
    stack.callback(prepared.close)
    prepared.require_proof()
    return prepared


def suite_window(prepared: Prepared) -> Window:
    """Return a function that runs a number of steps as the throughput test does, with one synchronisation."""

    def run(size: int) -> None:
        for index in range(size):
            prepared.runner.submit(prepared.batches[index % len(prepared.batches)])
        prepared.runner.synchronize()

    return run


def in_turns(contestants: dict[str, Window]) -> dict[str, float]:
    """Return the median seconds of one step of each contestant. The contestants take turns."""
    sizes = {}
    for name, window in contestants.items():
        window(3)
        began = perf_counter()
        window(3)
        sizes[name] = max(1, round(TURN_S * 3 / (perf_counter() - began)))
    step_s: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(TURNS):
        for name, window in contestants.items():
            began = perf_counter()
            window(sizes[name])
            step_s[name].append((perf_counter() - began) / sizes[name])
    return {name: statistics.median(values) for name, values in step_s.items()}


def bare_session(cache: Path, batch: int) -> Window:
    """Return a function that runs an ONNX Runtime session in a plain loop, on the file that the suite exported."""
    import onnxruntime

    (path,) = cache.glob("*/model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2]
    feeds = [{"images": torch.randn(batch, 3, size, size).numpy()} for _ in range(4)]

    def run(count: int) -> None:
        for index in range(count):
            session.run(None, feeds[index % 4])

    return run


def compare_with_bare_session(model: str, batch: int) -> str:
    """Compare the suite's onnxruntime row with a plain loop over a session."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        prepared = open_case(stack, Path(folder), model, "fp32", batch, "onnxruntime")
        found = in_turns({"suite": suite_window(prepared), "bare": bare_session(Path(folder), batch)})
    ratio = found["bare"] / found["suite"]
    return (
        f"{model} bs{batch} onnxruntime: {batch / found['suite']:.1f} images/s over a bare session's "
        f"{batch / found['bare']:.1f} = {ratio:.3f} (0.97 to 1.03)"
    )


def app_median_s(xml: Path, batch: int, size: tuple[int, int], hint: str = "f32", seconds: int = APP_S) -> float:
    """Return the median seconds of one inference, as OpenVINO's benchmark_app reports it with as many threads.

    Args:
        xml: the model.
        batch: the number of images in an inference.
        size: height and width in pixels.
        hint: the precision that the app asks for, by its own name.
        seconds: for how long it runs.
    """
    (script,) = (
        str(file.locate())
        for file in importlib.metadata.files("openvino") or ()
        if re.fullmatch(r".*bin/benchmark_app", str(file))
    )
    command = [sys.executable, script, "-m", str(xml), "-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1"]
    command += ["-nthreads", str(torch.get_num_threads()), "-infer_precision", hint, "-t", str(seconds)]
    command += ["-shape", f"[{batch},3,{size[0]},{size[1]}]"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Median:\s+([\d.]+) (us|ms)", text)  # microseconds below one millisecond
    if found is None:
        raise RuntimeError(f"benchmark_app printed no median:\n{text}")
    return float(found[1]) / {"us": 1e6, "ms": 1e3}[found[2]]


def compare_with_benchmark_app(model: str, batch: int) -> str:
    """Compare the suite's openvino row with OpenVINO's benchmark_app, in turns of some seconds.

    Each turn gives its median inference, and the best turn of each side counts: a machine that others use is slow for
    seconds at a time, never fast.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        prepared = open_case(stack, Path(folder), model, "fp32", batch, "openvino")
        window, size = suite_window(prepared), find_spec(model, CATALOG).input.size
        (xml,) = Path(folder).glob("*/model.xml")
        turns = []
        for _ in range(APP_TURNS):
            step_s, until = [], perf_counter() + APP_S
            while perf_counter() < until:
                began = perf_counter()
                window(1)
                step_s.append(perf_counter() - began)
            turns.append((statistics.median(step_s), app_median_s(xml, batch, size)))
    mine, app = (min(values) for values in zip(*turns, strict=True))
    return (
        f"{model} bs{batch} openvino: {mine * 1e3:.2f} ms a batch, benchmark_app {app * 1e3:.2f} ms, "
        f"{app / mine:.3f} of its speed (0.97 to 1.03; single turns "
        f"{', '.join(f'{theirs / ours:.3f}' for ours, theirs in turns)})"
    )


def default_eager(model: str, batch: int) -> Window:
    """Return a function that runs what a user gets by default: timm's module in fp32, contiguous layout, eager mode."""
    spec = find_spec(model, CATALOG)
    module = build_module(spec).module
    batches = [torch.randn(batch, 3, *spec.input.size) for _ in range(4)]

    def run(count: int) -> None:
        with torch.inference_mode():
            for index in range(count):
                module(batches[index % 4])

    return run


def compare_engines(model: str, batch: int, bars: dict[str, float], rows: list[tuple[str, str]]) -> list[str]:
    """Compare rows with the default eager module. Each row takes turns with it.

    Args:
        model: the name in the catalogue.
        batch: the number of images in a step.
        bars: for a precision, or for `any`, the least factor that its best row should reach.
        rows: the precision and the engine of each row.
    """
    lines, factors = [], []
    with tempfile.TemporaryDirectory() as folder:
        for precision, engine in rows:
            with ExitStack() as stack:
                prepared = open_case(stack, Path(folder), model, precision, batch, engine)
                found = in_turns({"row": suite_window(prepared), "eager": default_eager(model, batch)})
            factors.append((found["eager"] / found["row"], precision, engine))
            lines.append(
                f"{model} bs{batch} {precision} {engine}: {batch / found['row']:.1f} images/s over default eager's "
                f"{batch / found['eager']:.1f} = {factors[-1][0]:.2f}"
            )
    for which, bar in bars.items():
        best = max(factor for factor in factors if which in (factor[1], "any"))
        lines.append(
            f"{model} bs{batch}: best {which} row is {best[2]} {best[1]}, {best[0]:.2f} times (at least {bar:g})"
        )
    return lines


def time_cached_build(model: str, precision: str, engine: str) -> str:
    """Time building a case twice, of which the second time finds the artefact in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for _ in range(2):
            with ExitStack() as stack:
                prepared = open_case(stack, Path(folder), model, precision, 1, engine)
                seconds.append(prepared.cost.compile_s)
    return f"{model} {precision} {engine}: {seconds[0]:.1f} s, then {seconds[1]:.2f} s (under 2)"


EVERY: list[tuple[str, str]] = [
    *(("fp32", engine) for engine in ("trace", "compile", "aot", "onnxruntime", "openvino")),
    *(("bf16", engine) for engine in ("compile", "aot", "openvino")),
    *(("int8", engine) for engine in ("compile", "onnxruntime", "openvino")),
]
BUILDS = [(precision, engine) for precision, engine in EVERY if engine in ("compile", "aot", "onnxruntime", "openvino")]
COMPARISONS: dict[str, list[Callable[[], Any]]] = {
    "onnxruntime": [partial(compare_with_bare_session, model, batch) for model in MODELS for batch in BATCHES],
    "openvino": [partial(compare_with_benchmark_app, model, batch) for model in MODELS for batch in BATCHES],
    "fbnetc_100": [partial(compare_engines, "fbnetc_100", 1, {"fp32": 3, "any": 6}, EVERY)],
    "resnet50": [partial(compare_engines, "resnet50", 16, {"int8": 4}, [row for row in EVERY if row[0] == "int8"])],
    "builds": [partial(time_cached_build, model, *row) for model in MODELS for row in BUILDS if row[0] != "bf16"],
}


def print_comparisons(comparisons: dict[str, list[Callable[[], Any]]]) -> None:
    """Print the comparisons that are named on the command line, or all."""
    set_threads()
    for name in sys.argv[1:] or comparisons:
        print(name, flush=True)
        for compare in comparisons[name]:
            lines = compare()
            for line in [lines] if isinstance(lines, str) else lines:
                print("  " + line, flush=True)


if __name__ == "__main__":
    print_comparisons(COMPARISONS)
