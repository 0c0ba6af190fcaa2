"""What the harness adds to a training step, what engines and formats gain there, and what a second process is worth.

A part of `make bench-harness`. The figures are printed and nothing is asserted. With the names of comparisons (`step`,
`gains`, `replicas`) on the command line it makes those alone.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch

from benchmarks.bench_harness import in_turns, ratio_by_pieces
from harness.cases import Case
from harness.engines.torch.training import StepBatch
from harness.host.cores import set_threads
from harness.proof.training import PreparedStep, prepare_step
from models.catalog import find_spec, load_catalog
from selftests.inside import ROOT, TINY, run_here
from selftests.photographs import write_labelled

SECONDS = 8.0
STEP_CASES = ((TINY, 8), ("mobilenetv2_100", 4))
# Plain convolutions, and depthwise ones, whose backward pass is slow in bf16 on a CPU.
GAINS = (("resnet18", 8), ("fbnetc_100", 8))
TURNS = 3
TRAINED, BATCH, STEPS = "mobilenetv2_100", 8, 2
Way = tuple[str, str]


class BareSteps:
    """A pytest plugin that takes a plain step of the same module and optimiser in turn with the training step test."""

    def __init__(self) -> None:
        """Start without any result."""
        self.lines: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[object]:
        """Compare the number of the test with that of the plain steps between its rounds."""
        prepared: PreparedStep = pyfuncitem.funcargs["step"]
        found = in_turns(pyfuncitem, lambda arguments: bare_step_s(prepared, arguments[0]))
        result = yield
        kept = pyfuncitem.funcargs["benchmark"].extra_info
        bare_s = found.bare_s
        bare_ms, rate = statistics.median(bare_s) * 1e3, prepared.case.batch * len(bare_s) / sum(bare_s)
        ratio, low, high = ratio_by_pieces(found.rounds_s, bare_s, statistics.median)
        self.lines.append(
            f"{kept['case']}: p50 {kept['p50_ms']:.2f} ms over {bare_ms:.2f} ms = {kept['p50_ms'] / bare_ms:.3f}, "
            f"{kept['images_per_second']:.2f} images/s over {rate:.2f} = {kept['images_per_second'] / rate:.3f} "
            f"(0.98 to 1.02), {len(bare_s)} steps each; time by pieces {ratio:.3f} ({low:.3f} to {high:.3f})"
        )
        return result


def bare_step_s(prepared: PreparedStep, batch: StepBatch) -> float:
    """Return the seconds of one step as a user writes it by hand."""
    (images, labels), module, optimiser = batch, prepared.step.module, prepared.step.optimiser
    is_short = prepared.case.precision == "amp_bf16"
    shortened: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16) if is_short else nullcontext()
    began = perf_counter()
    optimiser.zero_grad(set_to_none=True)
    with shortened:
        loss = torch.nn.functional.cross_entropy(module(images), labels)
    loss.backward()
    optimiser.step()
    return perf_counter() - began


def compare_with_bare_steps() -> Iterator[str]:
    """Compare the training step test with a bare loop of the same step, in the same process."""
    plugin = BareSteps()
    for model, batch in STEP_CASES:
        outcome = run_here(
            *("tests_perf/test_training_step.py", "--model", model, "--device", "cpu", "--precision", "fp32,amp_bf16"),
            *("--engine", "eager", "--batch-size", str(batch), "--min-test-duration", str(SECONDS)),
            plugin=plugin,
        )
        yield from plugin.lines
        plugin.lines.clear()
        if outcome.code:
            yield outcome.text


def compare_gains() -> Iterator[str]:
    """Compare engines and formats with each other, one step in turn, in one process."""
    for model, batch in GAINS:
        ways: list[Way] = [("eager", "fp32"), ("eager", "amp_bf16"), ("compile", "fp32"), ("compile", "amp_bf16")]
        spec = find_spec(model, load_catalog())
        steps = {
            (engine, precision): prepare_step(
                Case(model, "cpu", precision, batch, engine), spec, "random", lambda compute: compute()
            )
            for engine, precision in (ways if model == "resnet18" else ways[:2])
        }
        found = steps_in_turns(steps)
        for (engine, precision), base in (
            (("eager", "amp_bf16"), ("eager", "fp32")),
            (("compile", "fp32"), ("eager", "fp32")),
            (("compile", "amp_bf16"), ("eager", "amp_bf16")),
        ):
            if (engine, precision) in found:
                rates = [batch / found[way] for way in ((engine, precision), base)]
                yield (
                    f"{model}, batch {batch}: {engine} {precision} over {base[0]} {base[1]} "
                    f"{rates[0]:.2f} over {rates[1]:.2f} images/s = {rates[0] / rates[1]:.2f} (as it is)"
                )
        for prepared in reversed(steps.values()):  # each puts back the switches that it found
            prepared.require_no_recompilation()
            prepared.close()


def steps_in_turns(steps: dict[Way, PreparedStep]) -> dict[Way, float]:
    """Return the median seconds of a step of each, taken in turn for some seconds."""
    for prepared in steps.values():
        prepared.require_proof()
    times: dict[Way, list[float]] = {way: [] for way in steps}
    end = perf_counter() + SECONDS * len(steps)
    while perf_counter() < end:
        for way, prepared in steps.items():
            batch = prepared.batches[len(times[way]) % len(prepared.batches)]
            began = perf_counter()
            prepared.step.submit(batch)
            prepared.step.synchronize()
            times[way].append(perf_counter() - began)
    return {way: statistics.median(found) for way, found in times.items()}


def compare_replicas() -> list[str]:
    """Compare two processes of a thread each that train together with one of them that trains alone, step by step."""
    with tempfile.TemporaryDirectory() as name:
        data = write_labelled(Path(name) / "data", classes=8, each=BATCH * STEPS * 2 // 8, size=(256, 256))
        found = [_trained(data, Path(name) / "out") for _ in range(TURNS)]
    each = ", ".join(f"{one['scaling']:.2f}" for one in found)
    middle = {
        name: statistics.median(one[name] for one in found)
        for name in ("scaling", "cpu_efficiency_pct", "communication_pct", "on_device_images_per_second")
    }
    return [
        f"{TRAINED}, batch {BATCH} a process, one thread each, steps on the device: two over one of them "
        f"{middle['scaling']:.2f} (at least 1.7; each run: {each}), per CPU second "
        f"{middle['cpu_efficiency_pct'] / 100:.2f} (at least 0.85); {middle['on_device_images_per_second']:.1f} "
        f"images/s, {middle['communication_pct']:.0f}% of a step is averaging"
    ]


def _trained(data: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "commands", "train", "--model", TRAINED, "--data", str(data)]
    command += ["--output-dir", str(out), "--replicas", "2", "--threads", "1", "--batch-size", str(BATCH)]
    command += ["--steps", str(STEPS), "--warmup-epochs", "0", "--learning-rate", "0.001"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    record: dict[str, Any] = json.loads((out / "record.json").read_text(encoding="utf-8"))
    return record


COMPARISONS: dict[str, tuple[str, Callable[[], Any]]] = {
    "step": ("training step over a bare loop of the same step", compare_with_bare_steps),
    "gains": ("training step: engines and formats over each other", compare_gains),
    "replicas": ("two processes that train together over one of them", compare_replicas),
}


def main() -> None:
    """Print the comparisons, all of them or those that the command line names."""
    set_threads()
    for name in sys.argv[1:] or COMPARISONS:
        title, compare = COMPARISONS[name]
        print(title, flush=True)
        for line in compare():
            print("  " + line, flush=True)


if __name__ == "__main__":
    main()
