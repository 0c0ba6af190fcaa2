"""Alarms that ring: each sabotage of an engine makes the product tests fail, in the right words.

The tests run are the product's own, pytest inside pytest, with one engine replaced by one that lies.
"""

from __future__ import annotations

import json
import re
import threading
import time

import numpy as np
import pytest
import torch

from harness.engines import eager, trace
from harness.engines.torch.runner import StepFindings, TorchRunner, place
from selftests.inside import TINY, Replacing, run_here
from selftests.logits import as_outputs


def product_run(name, build, *, precision="fp32", batch="4", tests=("tests_perf", "tests_accuracy")):
    return run_here(
        *tests,
        *("--model", TINY, "--engine", name, "--precision", precision, "--batch-size", batch, "--device", "cpu"),
        *("--max-test-duration", "0.2", "-k", "not end_to_end"),
        plugin=Replacing(name, build),
    )


def assert_rings(outcome, *words):
    assert outcome.code == 1, outcome.text
    assert "3 failed" in outcome.text
    assert not re.search(r"\d+ passed", outcome.text)
    for word in words:
        assert word in outcome.text, outcome.text
    assert "visionmark ==" not in outcome.text, "a row was printed that was not proven"


def test_the_run_without_sabotage_passes():
    outcome = product_run("eager", eager.build)
    assert outcome.code == 0, outcome.text
    assert "3 passed" in outcome.text


def test_bf16_traced_that_ran_eager_fp32_rings():
    """The FBNet sample's CPU run: `--jit trace --bf16` executed the plain module in fp32 and reported both."""

    def build(module, example, case, device, supplies):
        kept = module.to(memory_format=torch.channels_last)

        class Untraced(TorchRunner):
            def put(self, images):
                return images

        return Untraced(
            kept,
            kept,
            case,
            device,
            prove=lambda events: StepFindings(eager.executed_engine(kept, events)),
        )

    assert_rings(
        product_run("trace", build, precision="bf16"),
        "label says engine trace, but eager ran",
        "label says bf16, but convolution and matrix time was 100.0% fp32",
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile_without_inductor_rings(backend):
    from harness.engines import compile as compile_

    def build(module, example, case, device, supplies):
        compile_.forget_graphs()
        placed = place(module, case, device)
        compiled = torch.compile(placed, backend=backend)
        return TorchRunner(
            compiled,
            placed,
            case,
            device,
            prove=lambda events: compile_._prove(placed, events, device),
            compilations=compile_.compilations,
            on_close=compile_.forget_graphs,
        )

    assert_rings(product_run("compile", build), "label says engine compile, but a graph that dynamo captured ran")


def test_compile_that_fell_back_to_eager_rings():
    from harness.engines import compile as compile_

    def build(module, example, case, device, supplies):
        placed = place(module, case, device)
        return TorchRunner(
            placed,
            placed,
            case,
            device,
            prove=lambda events: compile_._prove(placed, events, device),
        )

    assert_rings(product_run("compile", build), "label says engine compile, but eager ran")


class Wrapped:
    """A true eager runner, one of whose methods a test replaces."""

    def __init__(self, runner):
        self._runner = runner

    def __getattr__(self, name):
        return getattr(self._runner, name)


def wrapping(kind):
    return lambda *arguments: kind(eager.build(*arguments))


class ForgetsToSynchronise(Wrapped):
    """Work goes on behind `submit`, as on an accelerator, and `synchronize` does not wait for it."""

    def submit(self, batch):
        box = {}

        def work():
            time.sleep(0.02)
            box["output"] = self._runner.submit(batch)

        thread = threading.Thread(target=work)
        thread.start()
        return thread, box

    def synchronize(self):
        pass

    def fetch(self, output):
        thread, box = output
        thread.join()
        return self._runner.fetch(box["output"])


def test_an_engine_that_forgets_to_synchronise_rings():
    assert_rings(
        product_run("eager", wrapping(ForgetsToSynchronise)), "synchronize() returned before the work was done"
    )


class Permutes(Wrapped):
    def fetch(self, output):
        return as_outputs(np.roll(self._runner.fetch(output)["logits"], 1, axis=0))


def test_permuted_outputs_ring():
    assert_rings(product_run("eager", wrapping(Permutes)), "outputs are permuted")


class AnswersNan(Wrapped):
    def fetch(self, output):
        logits = self._runner.fetch(output)["logits"]
        logits[0, 0] = np.nan
        return as_outputs(logits)


def test_nan_rings():
    assert_rings(product_run("eager", wrapping(AnswersNan)), "logits are NaN or infinite")


class AnswersOnce(Wrapped):
    """Returns the first answer for ever, as a stale output buffer does."""

    def submit(self, batch):
        self.output = getattr(self, "output", None) or [self._runner.submit(batch).clone()]
        return self.output[0]


def test_stale_outputs_ring():
    assert_rings(product_run("eager", wrapping(AnswersOnce), batch="1"), "every image gets the same answer")


def test_a_model_left_over_from_the_case_before_rings():
    kept = []

    def build(module, example, case, device, supplies):
        kept.append(module)
        return eager.build(kept[0], example, case, device, supplies)

    outcome = run_here(
        "tests_perf/test_latency.py",
        *("--model", f"{TINY},timm:test_efficientnet_gn", "--engine", "eager", "--precision", "fp32"),
        *("--batch-size", "4", "--device", "cpu", "--max-test-duration", "0.2"),
        plugin=Replacing("eager", build),
    )
    assert outcome.code == 1
    assert "1 failed, 1 passed" in outcome.text
    assert "resemble no image's: other weights" in outcome.text


def test_compiling_inside_the_timed_rounds_rings(tmp_path):
    class Recompiles(Wrapped):
        frames = 0

        def compilations(self):
            self.frames += 1
            return self.frames

    path = tmp_path / "out.json"
    outcome = run_here(
        *("tests_perf", "--model", TINY, "--engine", "eager", "--precision", "fp32", "--device", "cpu"),
        *("--batch-size", "4", "--max-test-duration", "0.1", f"--benchmark-json={path}", "-k", "latency or throughput"),
        plugin=Replacing("eager", wrapping(Recompiles)),
    )
    assert outcome.code == 1
    assert "graphs were compiled inside the timed rounds" in outcome.text
    assert not path.exists() or json.loads(path.read_text())["benchmarks"] == [], "unproven rounds were kept"


def test_openvino_with_the_wrong_precision_hint_rings(monkeypatch):
    from harness.engines import openvino

    monkeypatch.setitem(openvino._HINTS, "bf16", "f32")
    assert_rings(
        product_run("openvino", openvino.build, precision="bf16"),
        "label says bf16, but convolution and matrix time was 100.0% fp32",
    )


def test_tracing_autocast_is_really_bf16():
    """Guards the guard: the engine that the sample got wrong is right here."""
    outcome = product_run("trace", trace.build, precision="amp_bf16")
    assert outcome.code == 0, outcome.text
