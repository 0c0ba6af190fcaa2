"""Engines that lie about precision, quantisation, provider or weights make the product tests fail, in the right words.

Each sabotage goes into a real engine at the place where the mistake is made in practice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading

import numpy as np
import onnx
import pytest
import torch

from harness.artefacts import calibration, default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.devices.cpu import Cpu
from harness.engines import compile as compile_
from harness.engines import onnxruntime, openvino
from harness.engines.onnx import quantise
from harness.engines.torch import pt2e
from harness.engines.torch import runner as torch_runner
from harness.engines.torch.runner import TorchRunner, place
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY, run_command, run_here
from selftests.proof.test_alarms import assert_rings, product_run

BUILDERS = {"onnxruntime": onnxruntime.build, "openvino": openvino.build, "compile": compile_.build}
ONE_TEST = ("tests_perf/test_latency.py",)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(calibration, "CALIBRATION_IMAGES", 16)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that holds what the engines keep of the unquantised network."""
    folder = tmp_path_factory.mktemp("filled")
    for engine in ("onnxruntime", "openvino"):
        outcome = latency_run(engine, "--cache-dir", str(folder))
        assert outcome.code == 0, outcome.text
    return folder


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of it, that a test may spoil."""
    return shutil.copytree(filled, tmp_path / "cache")


def latency_run(engine, *arguments, precision="fp32", plugin=None):
    return run_here(
        *(*ONE_TEST, "--model", TINY, "--device", "cpu", "--engine", engine, "--precision", precision),
        *("--batch-size", "4", "--max-test-duration", "0.1", *arguments),
        plugin=plugin,
    )


def test_an_fp16_model_that_the_cpu_computes_in_fp32_rings(monkeypatch):
    """Whatever the CPU can do: ONNX Runtime has no fp16 kernel for it."""
    monkeypatch.setattr(Cpu, "supports", lambda self, precision: None)
    assert_rings(
        product_run("onnxruntime", onnxruntime.build, precision="fp16"),
        "label says fp16, but convolution and matrix time was 100.0% fp32",
    )


def copies(source, target, images, **named):
    shutil.copy(source, target)


def quantises_nothing(monkeypatch, engine):
    """As each quantiser fails in practice: a graph comes back in which nothing was marked."""
    if engine == "onnxruntime":
        monkeypatch.setattr(quantise, "quantise_onnx", copies)
    if engine == "openvino":
        import nncf

        monkeypatch.setattr(nncf, "quantize", lambda graph, *arguments, **named: graph)
    if engine == "compile":
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer

        monkeypatch.setattr(pt2e, "_open_quantiser", lambda name: X86InductorQuantizer())


@pytest.mark.parametrize("engine", BUILDERS)
def test_a_quantisation_that_quantised_nothing_rings(engine, monkeypatch, cache):
    quantises_nothing(monkeypatch, engine)
    outcome = latency_run(engine, "--cache-dir", str(cache), precision="int8")
    assert outcome.code == 1, outcome.text
    assert "label says int8, but convolution and matrix time was 100.0% fp32" in outcome.text
    assert "the quantiser quantised nothing: no operator ran in int8" in outcome.text
    assert "visionmark ==" not in outcome.text


def test_a_quantisation_of_the_classifier_alone_rings(monkeypatch, cache):
    from onnxruntime import quantization

    real = quantization.quantize_static
    monkeypatch.setattr(
        quantization, "quantize_static", lambda *a, **named: real(*a, **named, op_types_to_quantize=["Gemm"])
    )
    outcome = latency_run("onnxruntime", "--cache-dir", str(cache), precision="int8")
    assert outcome.code == 1, outcome.text
    assert "(int8 needs at least 90%)" in outcome.text


def test_a_calibration_on_black_images_rings(monkeypatch, cache):
    real = quantise.quantise_onnx
    monkeypatch.setattr(
        quantise,
        "quantise_onnx",
        lambda source, target, images, **named: real(source, target, torch.zeros_like(images)),
    )
    outcome = latency_run("onnxruntime", "--cache-dir", str(cache), precision="int8")
    assert outcome.code == 1, outcome.text
    assert "the floor of int8" in outcome.text


def test_nodes_that_fell_back_to_another_provider_ring(monkeypatch):
    """The provider that is asked for is in this build of ONNX Runtime, and has no kernel for any node."""
    monkeypatch.setitem(onnxruntime.PROVIDERS, "cpu", "AzureExecutionProvider")
    assert_rings(
        product_run("onnxruntime", onnxruntime.build),
        "nodes fell back to another provider: ",
        "Conv on CPUExecutionProvider (17)",
    )


@pytest.mark.slow
def test_compile_whose_parameters_were_not_frozen_rings():
    """`freezing` among the options of torch.compile: what this engine did at first."""

    def build(module, example, case, device, calibration):
        compile_.forget_graphs()
        placed = place(module, case, device)
        return TorchRunner(
            torch.compile(placed, dynamic=False, options={"freezing": True}),
            placed,
            case,
            device,
            prove=lambda events: compile_._prove(placed, events, device),
            compilations=compile_.compilations,
            on_close=compile_.forget_graphs,
        )

    assert_rings(product_run("compile", build), "but compile without frozen parameters ran")


class Products(torch.nn.Module):
    """A network without convolutions, of whose weights oneDNN packs none."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.Linear(8, 4))
        self.output_names = ("logits",)

    def forward(self, images):
        return self.layers(images)


def products(*, freezes=True):
    """A runner of that network by the engine compile, or by inductor without frozen parameters."""
    case, device = Case(TINY, "cpu", "fp32", 2, "compile"), open_device("cpu")
    images, network = torch.randn(2, 3, 4, 4), Products().eval()
    if freezes:
        artefacts = default_artefacts(find_spec(TINY, load_catalog()))
        return compile_.build(network, images, case, device, artefacts), images
    compile_.forget_graphs()
    placed = place(network, case, device)
    compiled = torch.compile(placed, dynamic=False)
    runner = TorchRunner(
        compiled,
        placed,
        case,
        device,
        prove=lambda events: compile_._prove(placed, events, device),
        on_close=compile_.forget_graphs,
    )
    runner.submit(images)
    return runner, images


@pytest.mark.parametrize(("freezes", "engine"), [(True, "compile"), (False, "compile without frozen parameters")])
def test_frozen_parameters_are_seen_where_nothing_is_packed(freezes, engine, monkeypatch):
    monkeypatch.setattr(compile_, "packed_operators", lambda events: 0)
    runner, images = products(freezes=freezes)
    try:
        assert runner.evidence(runner.put(images)).engine == engine
    finally:
        runner.close()


def test_constants_of_an_earlier_case_freeze_no_later_one():
    runner, _ = products()
    assert compile_.frozen_constants() > 0
    runner.close()
    assert compile_.frozen_constants() == 0


def test_a_step_with_cuda_graphs_is_profiled_with_torchs_precautions_for_them(monkeypatch):
    """The profiler looks at the configuration of the process, and the engine asks for graphs in its options."""
    seen = []

    def profiled(step, activity):
        seen.append(torch._inductor.config.triton.cudagraphs)
        return []

    monkeypatch.setattr(torch_runner, "profile_step", profiled)
    monkeypatch.setattr(compile_, "_records_graphs", lambda device: True)
    runner, images = products()
    try:
        runner.evidence(runner.put(images))
    finally:
        runner.close()
    assert seen == [True]
    assert not torch._inductor.config.triton.cudagraphs


def only_folder(cache, name):
    """The folder of the one artefact that has a file of that name."""
    (found,) = cache.glob(f"*/{name}")
    return found.parent


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "model.onnx"), ("openvino", "model.bin")])
def test_a_damaged_artefact_is_rebuilt_and_the_record_says_so(engine, name, cache, tmp_path):
    out, states = tmp_path / "out.json", []
    for is_damaged in (False, True, False):
        if is_damaged:
            path = only_folder(cache, name) / name
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        outcome = latency_run(engine, "--cache-dir", str(cache), "--benchmark-json", str(out))
        assert outcome.code == 0, outcome.text
        states.append(json.loads(out.read_text())["benchmarks"][0]["extra_info"]["evidence"]["notes"]["artefact"])
    assert states == ["cached", f"rebuilt: {name} changed since", "cached"]


def test_an_artefact_of_other_weights_that_forges_its_manifest_rings(cache):
    """Without the forgery it is made again: `artefacts/test_cache`."""
    path = only_folder(cache, "model.onnx") / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            weights = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(weights[::-1]), tensor.name))
    onnx.save(model, path)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    outcome = latency_run("onnxruntime", "--cache-dir", str(cache))
    assert outcome.code == 1, outcome.text
    assert "other weights" in outcome.text


@pytest.mark.slow
def test_two_runs_at_once_share_one_cache(tmp_path):
    outcomes = {}

    def run(name):
        outcomes[name] = run_command(
            *(*ONE_TEST, "--model", TINY, "--device", "cpu", "--engine", "onnxruntime", "--precision", "fp32"),
            *("--batch-size", "2", "--max-test-duration", "0.1", f"--benchmark-json={tmp_path / name}.json"),
            VISIONMARK_CACHE_DIR=str(tmp_path / "cache"),
            OMP_NUM_THREADS="1",
        )

    runs = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert {name: outcome.code for name, outcome in outcomes.items()} == {"a": 0, "b": 0}, outcomes
    rows = [json.loads((tmp_path / f"{name}.json").read_text())["benchmarks"][0]["extra_info"] for name in "ab"]
    assert sorted(row["evidence"]["notes"]["artefact"] for row in rows) == ["cached", "made"]
    assert [row["evidence"]["threads"]["intra_op"] for row in rows] == [1, 1]
    onnx.checker.check_model(str(only_folder(tmp_path / "cache", "model.onnx") / "model.onnx"))
