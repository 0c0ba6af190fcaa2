"""What the harness itself costs, run by `make bench-harness`. Prints each figure beside its bound and asserts nothing.

Every ratio compares two things that are measured in one process or one call, because two runs differ by more than the
harness costs.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch

from benchmarks import bench_coco, bench_streams
from benchmarks.peers import paired_ratio
from harness.cases import Case
from harness.data import write_generated_jpegs
from harness.host.cores import set_threads, usable_cores
from harness.measure import throughput
from harness.measure.accuracy.run import answer
from harness.measure.clock import BatchesOfRounds, NextArguments, TimedRounds
from harness.measure.pipeline import stage_rates, workers
from harness.proof import Prepared, References, prepare
from models.catalog import find_spec, load_catalog
from models.tasks import task_of
from selftests.inside import ROOT, TINY, run_command, run_here

# Networks that take about 1, 3 and 10 ms on two cores.
CASES = ((TINY, 1), ("timm:mobilenetv3_small_050", 1), ("fbnetc_100", 1))
SECONDS = 8.0
# A ratio and its interval are of so many pieces of a measurement, each of rounds that follow each other.
PIECES = 16

# A script as a user would write it by hand: it builds and times the same cases and proves nothing.
BARE_SCRIPT = """
import time, torch, timm, warnings
warnings.simplefilter("ignore")
torch.set_num_threads({threads})
for dtype in (torch.float32, torch.bfloat16):
    for engine in ("eager", "trace"):
        model = timm.create_model("fbnetc_100").eval().to(dtype).to(memory_format=torch.channels_last)
        batches = [torch.randn(1, 3, 224, 224).to(dtype).to(memory_format=torch.channels_last) for _ in range(4)]
        with torch.inference_mode(mode=False), torch.no_grad():
            if engine == "trace":
                model = torch.jit.freeze(torch.jit.trace(model, batches[0]))
            for index in range(20):
                model(batches[index % 4])
            for measurement in ("latency", "throughput"):
                end = time.perf_counter() + {seconds}
                while time.perf_counter() < end:
                    model(batches[0])
"""


@dataclass
class InTurns:
    """The seconds of each round of a product test, and of the bare round that ran before it."""

    rounds_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)


def in_turns(item: pytest.Function, bare: Callable[[Sequence[Any]], float]) -> InTurns:
    """Have a bare round run in turn with each round of a product test, outside the timed region.

    The two alternate, because the speed of a shared machine drifts by more than the harness costs.

    Args:
        item: the test, whose clock is replaced.
        bare: given the arguments of a round, runs what that round runs and returns its seconds.

    Returns:
        The seconds of both, which are there once the test has run.
    """
    timed: TimedRounds = item.funcargs["timed"]
    found = InTurns()

    def interleaved(
        kind: str,
        target: Callable[..., None],
        next_arguments: NextArguments,
        of_rounds: BatchesOfRounds | None = None,
    ) -> list[float]:
        def next_and_bare(elapsed_s: float) -> tuple[Any, ...] | None:
            arguments = next_arguments(elapsed_s)
            if arguments is not None:
                found.bare_s.append(bare(arguments))
            return arguments

        found.rounds_s.extend(timed(kind, target, next_and_bare, of_rounds))
        return found.rounds_s

    item.funcargs["timed"] = interleaved
    return found


class BareLoops:
    """A pytest plugin that runs a plain loop in turn with the rounds of a product test."""

    def __init__(self) -> None:
        """Start without any result."""
        self.lines: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[object]:
        """Compare the number of the test with that of the bare rounds between its rounds."""
        prepared: Prepared = pyfuncitem.funcargs["prepared"]
        sizes: list[int] = []

        def bare(arguments: Sequence[Any]) -> float:
            sizes.append(arguments[0] if pyfuncitem.name.startswith("test_throughput") else 1)
            return bare_window(prepared, sizes[-1])

        found = in_turns(pyfuncitem, bare)
        result = yield
        kept = pyfuncitem.funcargs["benchmark"].extra_info
        if kept["measurement"] == "latency":
            bare_number, measured, centre = statistics.median(found.bare_s) * 1e3, kept["p50_ms"], statistics.median
            figures = f"p50 {measured:.3f} ms over {bare_number:.3f}"
        else:
            bare_number = prepared.case.batch * sum(sizes) / sum(found.bare_s)
            measured, centre = kept["images_per_second"], sum
            figures = f"{measured:.1f} images/s over {bare_number:.1f}"
        ratio, low, high = ratio_by_pieces(found.rounds_s, found.bare_s, centre)
        self.lines.append(
            f"{kept['case']}: {figures} = {measured / bare_number:.3f} (0.98 to 1.02); time by pieces {ratio:.3f} "
            f"({low:.3f} to {high:.3f}); waited for a core {kept['runqueue_wait_pct']:.0f}%"
        )
        return result


def ratio_by_pieces(
    rounds_s: Sequence[float], bare_s: Sequence[float], centre: Callable[[Sequence[float]], float]
) -> tuple[float, float, float]:
    """Return the ratio of two measurements that took turns round by round, and the ends of its 95% interval.

    Both are cut into `PIECES` equal parts, of which the centres are compared; what is left over at the end is dropped.
    """
    length = max(1, len(rounds_s) // PIECES)
    starts = range(0, min(PIECES, len(rounds_s)) * length, length)
    pieces = [[centre(values_s[start : start + length]) for start in starts] for values_s in (rounds_s, bare_s)]
    return paired_ratio(*pieces)


def bare_window(prepared: Prepared, size: int) -> float:
    """Return the seconds of `size` steps with one synchronisation at the end."""
    runner, batches = prepared.runner, prepared.batches
    began = perf_counter()
    for index in range(size):
        runner.submit(batches[index % len(batches)])
    runner.synchronize()
    return perf_counter() - began


def compare_with_bare_loops() -> list[str]:
    """Compare p50 and throughput with those of a bare loop over the same runner, in the same process."""
    plugin = BareLoops()
    for model, batch in CASES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(throughput, "WINDOWS", 100)  # short windows, so that drift hits test and bare loop alike
            outcome = run_here(
                *("tests_perf/test_latency.py", "tests_perf/test_throughput.py", "--model", model, "--device", "cpu"),
                *("--precision", "fp32", "--engine", "trace", "--batch-size", str(batch)),
                *("--min-test-duration", str(SECONDS)),
                plugin=plugin,
            )
        if outcome.code:
            return [outcome.text]
    return plugin.lines


def time_collection() -> list[str]:
    """Time the collection of every model, precision, batch and engine on the devices that are present."""
    axes = ("--model", "--device", "--precision", "--batch-size", "--engine")
    text = run_command("--collect-only", "-q", *(word for axis in axes for word in (axis, "all"))).text
    found = re.search(r"(\d+) tests collected in ([\d.]+)s", text)
    return [f"{found[1]} tests collected in {found[2]} s (under 5)" if found else text]


def compare_with_bare_script() -> list[str]:
    """Compare the wall time of the smoke tier's perf tests with a bare script that builds and times the same cases."""
    began = perf_counter()
    outcome = run_command("tests_perf", "-k", "latency or throughput", "--tier", "smoke")
    suite_s = perf_counter() - began
    script = BARE_SCRIPT.format(threads=torch.get_num_threads(), seconds=2)
    began = perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)
    bare_s = perf_counter() - began
    if outcome.code:
        return [outcome.text]
    return [f"suite {suite_s:.1f} s over a bare script's {bare_s:.1f} s = {suite_s / bare_s:.2f} (at most 1.5)"]


def compare_accuracy_run() -> list[str]:
    """Compare the images per second of an accuracy run with the slower of its halves, decoding and the model."""
    lines = []
    for model, engine, precision in (("resnet50", "compile", "fp32"), ("mobilenetv3_large_100", "compile", "fp32")):
        spec = find_spec(model, load_catalog())
        with tempfile.TemporaryDirectory() as folder:
            files = write_generated_jpegs(Path(folder), 256)
            task = task_of(spec)
            transform = task.transform(spec)
            prepared = prepare(Case(model, "cpu", precision, 32, engine), spec, "random", References(spec, "random"))
            with workers(usable_cores()) as pool:
                rates = stage_rates(prepared.runner, task, transform, files, 32, pool)
                answers = answer(prepared.runner, task, transform, files, 32, pool, lambda done, total, text: None)
            prepared.close()
        files_only = 1 / (1 / rates["decode"] + 1 / rates["preprocess"])
        slower = min(files_only, rates["model"])
        whole = len(files) / answers.wall_s
        lines.append(
            f"{prepared.case}: {whole:.1f} images/s over {slower:.1f} = {whole / slower:.2f} (at least 0.9); "
            f"decode only {files_only:.1f}, model only {rates['model']:.1f}"
        )
    return lines


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def compare_memory() -> list[str]:
    """Compare the memory after a case is closed with that before it.

    The first case of each engine is left out, because it loads the engine's libraries.
    """
    spec = find_spec("fbnetc_100", load_catalog())
    references = References(spec, "random")
    lines = []
    engines = ("eager", "trace", "script", "compile")
    for is_first, engine in ((is_first, engine) for engine in engines for is_first in (True, False)):
        before = resident_mib()
        case = Case("fbnetc_100", "cpu", "fp32", 8, engine)
        prepared = prepare(case, spec, "random", references)
        within = resident_mib()
        prepared.close()
        del prepared
        after = resident_mib()
        if not is_first:
            figures = f"{before:.0f} MiB before, {within:.0f} within, {after:.0f} after"
            lines.append(f"{case}: {figures} = {after / before:.3f} (0.95 to 1.05)")
    return lines


def main() -> None:
    """Print every comparison."""
    set_threads()
    for title, compare in (
        ("number over a bare loop of the same runner", compare_with_bare_loops),
        ("collection of the whole matrix", time_collection),
        ("wall time over a bare script of the same cases", compare_with_bare_script),
        ("accuracy run over the slower of decode only and model only", compare_accuracy_run),
        ("memory after a case over before it", compare_memory),
        *bench_coco.COMPARISONS.items(),
        *bench_streams.COMPARISONS.items(),
    ):
        print(title, flush=True)
        for line in compare():
            print("  " + line, flush=True)


if __name__ == "__main__":
    main()
