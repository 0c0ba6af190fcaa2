"""The suite's proven rows against other tools' own benchmarks: `python -m benchmarks.peers MODEL --batch-size N`.

Every tool measures the same network with the same batch and as many threads, in turns with our rows: in each turn every
contestant is measured once for some seconds, and the order is rotated. The ratio of a tool to our best row is paired by
turn, and its 95% interval is Student's of the logarithms. Nothing is asserted.

The tools are installed packages (OpenVINO's `benchmark_app`, ONNX Runtime's `onnxruntime_test`, torchvision) or lie in
the folder that the variable PEERS_DIR names: `pytorch-image-models`, a checkout of timm with its `benchmark.py`.
`perf_analyzer` is compared with the served rows by the serving tests themselves, in turns (`cross_check`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.bench_engines import CATALOG, app_median_s, default_eager, open_case, suite_window
from harness.host.cores import set_threads
from harness.host.pressure import read_waiting, shares_of
from models.catalog import ModelSpec, find_spec

OURS = (
    *(("fp32", engine) for engine in ("compile", "onnxruntime", "openvino")),
    ("bf16", "openvino"),
    *(("int8", engine) for engine in ("onnxruntime", "openvino")),
)
# What timm's script is asked for, beside its defaults.
TIMM_RUNS: dict[str, tuple[str, ...]] = {
    "default": (),
    "channels_last": ("--channels-last",),
    "bf16, channels_last": ("--precision", "bfloat16", "--channels-last"),
    "torchcompile": ("--torchcompile",),
}
CONFIDENCE = 0.95
Measured = Callable[[], float]


@dataclass(frozen=True)
class Contestant:
    """One way to run the network.

    Attributes:
        name: what is run.
        is_ours: whether it is a proven row of this suite.
        precision: the format that was asked for.
        measure: runs it for some seconds and returns the seconds of one batch.
    """

    name: str
    is_ours: bool
    precision: str
    measure: Measured


class AbsentPeer(Exception):
    """A tool is not here, or failed; the text says what to do."""


def median_step_s(window: Callable[[int], None], seconds: float) -> float:
    """Return the median seconds of a step, of single steps that are run one after the other for `seconds`."""
    steps_s: list[float] = []
    until = perf_counter() + seconds
    while perf_counter() < until:
        began = perf_counter()
        window(1)
        steps_s.append(perf_counter() - began)
    return statistics.median(steps_s)


def our_rows(stack: ExitStack, folder: Path, model: str, batch: int, seconds: float) -> Iterator[Contestant]:
    """Yield our rows, each prepared and proven."""
    for precision, engine in OURS:
        prepared = open_case(stack, folder / f"{precision}-{engine}", model, precision, batch, engine)
        window = suite_window(prepared)
        window(3)
        yield Contestant(f"{engine}", True, precision, partial(median_step_s, window, seconds))


def modules(model: str, batch: int, seconds: float) -> Iterator[Contestant]:
    """Yield the module of its library as it comes, in eager mode."""
    window = default_eager(model, batch)
    window(3)
    library = find_spec(model, CATALOG).source
    yield Contestant(f"{library}'s module, eager", False, "fp32", partial(median_step_s, window, seconds))


def newest(folder: Path, name: str) -> Path:
    """Return the file that was made last: of a row in int8 the fp32 file that it was quantised from lies there too."""
    return max(folder.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime_ns)


def openvino_apps(folder: Path, spec: ModelSpec, batch: int, seconds: float) -> Iterator[Contestant]:
    """Yield OpenVINO's benchmark_app on the files that our rows run."""
    for row, precision, hint in (
        ("fp32-openvino", "fp32", "f32"),
        ("bf16-openvino", "bf16", "bf16"),
        ("int8-openvino", "int8", "f32"),
    ):
        xml = newest(folder / row, "model.xml")
        measure = partial(app_median_s, xml, batch, spec.input.size, hint, max(1, round(seconds)))
        yield Contestant("benchmark_app", False, precision, measure)


def onnxruntime_tests(folder: Path, batch: int, seconds: float) -> Iterator[Contestant]:
    """Yield ONNX Runtime's own test tool on the files that our rows run."""
    for row, precision in (("fp32-onnxruntime", "fp32"), ("int8-onnxruntime", "int8")):
        path = newest(folder / row, "model.onnx")
        yield Contestant("onnxruntime_test", False, precision, OnnxRuntimeTest(path, batch, seconds))


class OnnxRuntimeTest:
    """Runs `onnxruntime_test`, which takes a number of iterations and no time."""

    def __init__(self, path: Path, batch: int, seconds: float) -> None:
        """Prepare to run the file for about `seconds`."""
        self._path, self._batch, self._seconds = path, batch, seconds
        self._step_s: float | None = None

    def __call__(self) -> float:
        """Return the mean seconds of one inference, which is all that the tool prints."""
        if self._step_s is None:
            self._step_s = self._run(10)
        self._step_s = self._run(max(10, round(self._seconds / self._step_s)))
        return self._step_s

    def _run(self, iterations: int) -> float:
        command = [sys.executable, "-m", "onnxruntime.tools.onnxruntime_test", str(self._path), str(iterations)]
        command += ["--symbolic_dims", f"{_symbol(self._path)}={self._batch}"]
        return float(_found(r"avg latency:\s*([\d.]+) ms", _output(command))) / 1e3


def timm_scripts(spec: ModelSpec, batch: int, seconds: float, step_s: float) -> Iterator[Contestant]:
    """Yield timm's benchmark.py, with its defaults and with the options that make it faster.

    Raises:
        AbsentPeer: the script is not in PEERS_DIR, or the network is not timm's.
    """
    folder = os.environ.get("PEERS_DIR")
    script = Path(folder or ".") / "pytorch-image-models" / "benchmark.py"
    if not folder or not script.is_file():
        raise AbsentPeer("timm's benchmark.py: set PEERS_DIR to a folder with a checkout of pytorch-image-models in it")
    if spec.source != "timm":
        raise AbsentPeer(f"timm's benchmark.py: {spec.name} is not timm's")
    for name, options in TIMM_RUNS.items():
        precision = "bf16" if "bfloat16" in options else "fp32"
        iterations = max(10, round(seconds / step_s))
        command = [sys.executable, str(script), "--model", spec.arch, "--device", "cpu", "--bench", "inference"]
        command += ["--batch-size", str(batch), "--num-bench-iter", str(iterations), "--no-retry", *options]
        yield Contestant(f"timm's benchmark.py, {name}", False, precision, partial(_timm_s, command, batch))


def _timm_s(command: Sequence[str], batch: int) -> float:
    return batch / float(_found(r'"infer_samples_per_sec":\s*([\d.]+)', _output(command)))


def _symbol(path: Path) -> str:
    """Return the name of the batch dimension of an ONNX file."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return str(model.graph.input[0].type.tensor_type.shape.dim[0].dim_param)


def _output(command: Sequence[str]) -> str:
    threads = str(torch.get_num_threads())
    variables = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise AbsentPeer(f"{' '.join(command[1:3])} ended with {done.returncode}: {''.join(last)}")
    return done.stdout + done.stderr


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise AbsentPeer(f"nothing like {pattern} in its output: …{text.strip()[-300:]}")
    return found[1]


@dataclass(frozen=True)
class Line:
    """The result of one contestant: the seconds of a batch by turn, and the ratio to our best row with its interval."""

    contestant: Contestant
    steps_s: tuple[float, ...]
    ratio: float
    low: float
    high: float


def paired_ratio(steps_s: Sequence[float], best_s: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of the ratios turn by turn, and the ends of its 95% interval (Student's)."""
    from scipy.stats import ttest_1samp

    logs = [math.log(step / best) for step, best in zip(steps_s, best_s, strict=True)]
    mean = statistics.fmean(logs)
    if len(set(logs)) == 1:  # our best row beside itself
        return math.exp(mean), math.exp(mean), math.exp(mean)
    ends = ttest_1samp(logs, 0.0).confidence_interval(CONFIDENCE)
    return math.exp(mean), math.exp(float(ends.low)), math.exp(float(ends.high))


def take_turns(contestants: Sequence[Contestant], turns: int) -> tuple[dict[Contestant, list[float]], list[str]]:
    """Measure every contestant once a turn, beginning each turn with another one.

    Returns:
        The seconds of a batch of each contestant by turn, and why some are left out.
    """
    found: dict[Contestant, list[float]] = {contestant: [] for contestant in contestants}
    reasons: list[str] = []
    for turn in range(turns):
        begin = turn * len(contestants) // turns
        for contestant in (*contestants[begin:], *contestants[:begin]):
            if contestant not in found:
                continue
            try:
                found[contestant].append(contestant.measure())
            except (AbsentPeer, RuntimeError, subprocess.CalledProcessError) as error:
                reasons.append(f"{contestant.name} {contestant.precision}: {error}")
                del found[contestant]
        print(f"turn {turn + 1} of {turns}", file=sys.stderr, flush=True)
    return found, reasons


def compare(found: dict[Contestant, list[float]]) -> list[Line]:
    """Return the results, the fastest first, each with its time over that of our best row."""
    best = min((one for one in found if one.is_ours), key=lambda one: statistics.fmean(found[one]))
    lines = [Line(one, tuple(steps), *paired_ratio(steps, found[best])) for one, steps in found.items()]
    return sorted(lines, key=lambda line: line.ratio)


def table(lines: Sequence[Line], batch: int) -> list[str]:
    """Return the results as a table of Markdown."""
    rows = [
        "| | precision | ms a batch | images/s | time over our best row's (95%) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        one, step_s = line.contestant, statistics.median(line.steps_s)
        name = f"**{one.name}**" if one.is_ours else one.name
        ratio = (
            f"{line.ratio:.2f}" if line.low == line.high else f"{line.ratio:.2f} ({line.low:.2f} to {line.high:.2f})"
        )
        rows.append(f"| {name} | {one.precision} | {step_s * 1e3:.2f} | {batch / step_s:.1f} | {ratio} |")
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Print the table of one model and batch size, and the pressure on the cores while it was made."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.partition("\n")[0])
    asked.add_argument("model", nargs="?", default="fbnetc_100", help="a name in the catalogue")
    asked.add_argument("--batch-size", type=int, default=1, help="images in a batch")
    asked.add_argument("--turns", type=int, default=5, help="how often each contestant is measured")
    asked.add_argument("--seconds", type=float, default=3.0, help="for how long, each time")
    asked.add_argument("--json", type=Path, help="write all turns there too")
    said = asked.parse_args(words)
    if said.turns < 2:
        asked.error("--turns: an interval needs at least 2")
    threads, spec = set_threads(), find_spec(said.model, CATALOG)
    reasons: list[str] = []
    with tempfile.TemporaryDirectory() as kept, ExitStack() as stack:
        folder, batch, seconds = Path(kept), said.batch_size, said.seconds
        contestants = [*our_rows(stack, folder, said.model, batch, seconds), *modules(said.model, batch, seconds)]
        step_s = contestants[-1].measure()
        contestants += [*openvino_apps(folder, spec, batch, seconds), *onnxruntime_tests(folder, batch, seconds)]
        try:
            contestants += timm_scripts(spec, batch, seconds, step_s)
        except AbsentPeer as error:
            reasons.append(str(error))
        before = read_waiting()
        found, failed = take_turns(contestants, said.turns)
        pressure = shares_of(before, read_waiting())["cpu_pressure_pct"]
    lines = compare(found)
    shared = "" if pressure is None else f"; for {pressure:.0f}% of the time a process waited for a core"
    print(f"{said.model}, batch {batch}, {threads} threads, {said.turns} turns of {seconds:g} s{shared}\n")
    print("\n".join(table(lines, batch)))
    for reason in (*reasons, *failed):
        print(f"not measured: {reason}")
    if said.json:
        rows = [
            {"name": line.contestant.name, "is_ours": line.contestant.is_ours, "precision": line.contestant.precision}
            | {"batch_s": line.steps_s, "ratio": line.ratio, "ratio_low": line.low, "ratio_high": line.high}
            for line in lines
        ]
        said.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
