"""The engine tensorrt: against the real package's documented signatures, and on a mock of it where there is no GPU."""

import copy
import inspect
import json
import re
import shutil
import sys
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import PRECISIONS, Case
from harness.devices import open_device, place_of
from harness.engines import tensorrt as engine
from harness.engines.onnx.export import FILE_NAME, exported_onnx
from harness.engines.tensorrt import plan
from harness.engines.tensorrt.bf16 import write_bf16
from harness.engines.tensorrt.layers import NoDetail, layers_of, work_of
from harness.engines.tensorrt.stream import CudaStream
from harness.proof import input_images
from harness.proof.contradictions import contradictions
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.tasks.classify import sqnr_db
from selftests.engines import fake_tensorrt
from selftests.inside import ROOT, TINY
from selftests.logits import reference_logits, run_logits

SPEC = find_spec(TINY, load_catalog())
SIGNATURES = json.loads((ROOT / "selftests" / "engines" / "tensorrt_signatures.json").read_text())


def documented(package):
    """Parameters of each overload of what the engine uses, from the docstrings of the bindings."""
    found = {}
    for name in SIGNATURES["methods"]:
        owner, method = name.split(".")
        text = getattr(getattr(package, owner), method).__doc__
        overloads = re.findall(rf"^(?:\d+\. )?{method}\((.*)\) -> .*$", text, re.M)
        found[name] = [[p.split(":")[0].strip() for p in re.split(r", (?=\w+:)", o)][1:] for o in overloads]
    return found


def test_the_mock_has_the_documented_parameters():
    for name, overloads in SIGNATURES["methods"].items():
        owner, method = name.split(".")
        function = getattr(getattr(fake_tensorrt, owner), method)
        assert list(inspect.signature(function).parameters)[1:] in overloads, name
    for name, members in SIGNATURES["enums"].items():
        assert set(getattr(fake_tensorrt, name).__members__) <= set(members), name


def test_the_engine_uses_nothing_that_is_not_documented():
    """Every name that the engine takes from the package is one that was read from the real bindings."""
    source = inspect.getsource(engine) + inspect.getsource(plan)
    known = {name.split(".")[0] for name in SIGNATURES["methods"]} | set(SIGNATURES["enums"])
    used = set(re.findall(r"\btensorrt\.([A-Z]\w+)", source))
    assert used
    assert used <= known
    for name, member in re.findall(r"\btensorrt\.(\w+)\.([A-Z0-9_]+)\b", source):
        assert name == "Logger" or member in SIGNATURES["enums"][name], (name, member)


def test_the_documented_signatures_are_those_of_the_installed_package():
    package = pytest.importorskip("tensorrt", reason="tensorrt is not installed: requirements/tensorrt.txt")
    found = documented(package)
    for name, overloads in SIGNATURES["methods"].items():
        assert any(overload in found[name] for overload in overloads), name
    for name, members in SIGNATURES["enums"].items():
        used = {member for member in members if f"{name}.{member}" in inspect.getsource(plan)}
        assert used <= set(getattr(package, name).__members__), name
    for name, properties in SIGNATURES["properties"].items():
        assert all(isinstance(getattr(getattr(package, name), one), property) for one in properties), name


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A cache with the exported model in it: exporting is most of the time here."""
    folder = tmp_path_factory.mktemp("exports")
    module, images, _ = model_and_reference()
    exported_onnx(module, images[:4], TINY, Artefacts(ArtefactCache(folder), pytest.fail))
    return folder


@pytest.fixture
def supplies(exports, tmp_path):
    """A copy of it for each test: a plan that another test has sabotaged is not found here."""
    shutil.copytree(exports, tmp_path / "cache")
    return Artefacts(ArtefactCache(tmp_path / "cache"), lambda: generated_calibration(SPEC, 16))


@pytest.fixture
def mocked(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt)
    monkeypatch.setattr(engine, "CudaStream", fake_tensorrt.FakeStream)
    monkeypatch.setattr(fake_tensorrt.FakeStream, "waited", 0)
    monkeypatch.setattr(fake_tensorrt.FakeStream, "kept", ())
    return fake_tensorrt


@cache
def model_and_reference():
    module, images = build_module(SPEC).module, input_images(SPEC, 8)
    return module, images, reference_logits(module, images)


def run_mock(precision, supplies):
    """Answers against the reference, what denies the label, and the evidence."""
    gpu = fake_tensorrt.FakeGpu()
    case = Case(TINY, "cuda", precision, 4, "tensorrt")
    module, images, reference = model_and_reference()
    module = copy.deepcopy(module)
    runner = engine.build(module, images[:4], case, gpu, supplies)
    try:
        logits = run_logits(runner, images, 4)
        assert fake_tensorrt.FakeStream.waited >= 2, "the stream did not wait for its input"
        evidence = runner.evidence(runner.put(images[:4]))
    finally:
        runner.close()
    assert evidence.parameter_devices.keys() == {"cpu"}, "the mock's memory is the host's"
    evidence = replace(evidence, parameter_devices={place_of(gpu): 1})
    return sqnr_db(reference, logits), contradictions(case, gpu, evidence), evidence


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_on_the_mock_each_precision_answers_right_and_is_proven(precision, supplies, mocked):
    sqnr, denied, evidence = run_mock(precision, supplies)
    assert sqnr >= PRECISIONS[precision].sqnr_floor_db
    assert denied == []
    assert evidence.dtype_share_pct == {PRECISIONS[precision].work: 100.0}
    assert evidence.notes["artefact"] == "made"


def test_a_plan_is_used_again(supplies, mocked):
    assert [run_mock("fp32", supplies)[2].notes["artefact"] for _ in range(2)] == ["made", "cached"]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_key_of_a_plan_knows_all_the_code_that_makes_it(precision, supplies, mocked, monkeypatch):
    """The flags of the builder, the rewriting to bf16 and the quantising are in other files than the engine itself."""
    keys = []

    def obtain(key, make):
        keys.append(json.dumps(key))
        raise KeyError("no plan is needed here")

    monkeypatch.setattr(supplies.cache, "obtain", obtain)
    case = Case(TINY, "cuda", precision, 4, "tensorrt")
    module, images, _ = model_and_reference()
    with pytest.raises(KeyError):
        engine.build(copy.deepcopy(module), images[:4], case, fake_tensorrt.FakeGpu(), supplies)
    for file in ("tensorrt/__init__.py", "tensorrt/plan.py", "tensorrt/bf16.py", "onnx/export.py", "onnx/quantise.py"):
        assert f'"{file}": ' in keys[0], file


def test_the_memory_of_every_batch_is_kept_until_the_stream_has_read_it(supplies, mocked, monkeypatch):
    execute, read = mocked.IExecutionContext.execute_async_v3, []

    def executed(self, stream_handle):
        read.append(next(iter(self.addresses[name] for name in self.shapes)))
        assert read[-1] in mocked.FakeStream.kept, "torch may give the memory to the next batch"
        return execute(self, stream_handle)

    monkeypatch.setattr(mocked.IExecutionContext, "execute_async_v3", executed)
    run_mock("fp32", supplies)
    assert len(read) >= 2
    assert mocked.FakeStream.kept == tuple(read)


def test_torch_is_told_which_stream_reads_the_memory_of_a_batch(monkeypatch):
    """Without it torch's allocator knows its own stream alone."""
    made = SimpleNamespace(cuda_stream=7)
    monkeypatch.setattr(torch.cuda, "Stream", lambda index: made)
    told = []
    CudaStream(0).keep(SimpleNamespace(record_stream=told.append))
    assert told == [made]


def test_the_record_tells_the_conditions_of_the_gpu(supplies, mocked):
    assert run_mock("fp32", supplies)[2].notes["conditions"] == {"power_limit_w": 700.0}


def test_tf32_that_was_left_on_rings(supplies, mocked, monkeypatch):
    monkeypatch.setattr(mocked.IBuilderConfig, "clear_flag", lambda self, flag: None)
    _, denied, _ = run_mock("fp32", supplies)
    assert any("label says fp32, but convolution and matrix time was 100.0% tf32" in text for text in denied)
    assert any("TF32 is on for tensorrt" in text for text in denied)


def test_a_network_in_another_format_rings(supplies, mocked, monkeypatch):
    monkeypatch.setitem(engine._DTYPES, "fp16", torch.float32)
    monkeypatch.setattr(torch.nn.Module, "half", lambda self: self)
    monkeypatch.setattr(engine, "input_dtype", lambda images, case: torch.float32)
    _, denied, _ = run_mock("fp16", supplies)
    assert any("label says fp16, but convolution and matrix time was 100.0% fp32" in text for text in denied)


def test_a_quantiser_that_quantised_nothing_rings(supplies, mocked, monkeypatch):
    monkeypatch.setattr(engine, "quantised_onnx", lambda *given, symmetric: exported_onnx(*given))
    _, denied, evidence = run_mock("int8", supplies)
    assert any("quantised nothing" in text for text in denied)
    assert any("label says int8, but convolution and matrix time was 100.0% fp32" in text for text in denied)
    assert len(evidence.quantisation.float_layers) > 10


def test_a_step_in_which_no_layer_ran_rings(supplies, mocked, monkeypatch):
    monkeypatch.setattr(mocked.ICudaEngine, "create_execution_context", _silent)
    _, denied, _ = run_mock("fp32", supplies)
    assert any("no convolution or matrix product at all" in text for text in denied)
    assert any("no kernel of it" in text for text in denied)


def _silent(self, strategy=0):
    class Silent(fake_tensorrt.IExecutionContext):
        profiler = property(lambda self: None, lambda self, value: None)

    return Silent(self)


def test_a_plan_without_detail_is_no_evidence(supplies, mocked, monkeypatch):
    monkeypatch.setattr(
        mocked.Builder, "build_serialized_network", _undetailed(mocked.Builder.build_serialized_network)
    )
    with pytest.raises(NoDetail, match="DETAILED"):
        run_mock("fp32", supplies)


def _undetailed(build):
    def built(self, network, config):
        config.profiling_verbosity = fake_tensorrt.ProfilingVerbosity.LAYER_NAMES_ONLY
        return build(self, network, config)

    return built


def test_what_tensorrt_refuses_is_told_in_its_words(mocked, tmp_path, monkeypatch):
    (tmp_path / "broken.onnx").write_bytes(b"no onnx")
    with pytest.raises(plan.TensorRtError, match="error 0: no ONNX file"):
        plan.build_plan(tmp_path / "broken.onnx", (1, 3, 8, 8), tf32=False)
    monkeypatch.setattr(mocked.OnnxParser, "parse_from_file", lambda self, model: True)
    monkeypatch.setattr(mocked.Builder, "build_serialized_network", lambda self, network, config: None)
    with pytest.raises(plan.TensorRtError, match=r"no plan for broken.onnx"):
        plan.build_plan(tmp_path / "broken.onnx", (1, 3, 8, 8), tf32=False)


def test_bf16_is_a_sound_file_of_rounded_weights(exports, tmp_path):
    (fp32,) = exports.glob(f"*/{FILE_NAME}")
    write_bf16(fp32, tmp_path / "bf16.onnx")
    before, after = (onnx.load(str(path)).graph for path in (fp32, tmp_path / "bf16.onnx"))
    floats = {tensor.name: tensor for tensor in before.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    assert floats
    for tensor in after.initializer:
        if tensor.name in floats:
            assert tensor.data_type == onnx.TensorProto.BFLOAT16
            was = torch.from_numpy(onnx.numpy_helper.to_array(floats[tensor.name]).copy())
            now = torch.from_numpy(onnx.numpy_helper.to_array(tensor).astype(np.float32))
            assert torch.equal(was.bfloat16().float(), now)
    assert {end.type.tensor_type.elem_type for end in (*after.input, *after.output)} == {onnx.TensorProto.BFLOAT16}


# As the developer guide shows them, and as versions spell the format of a tensor.
LAYERS = [
    ({"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Half"}]}, "fp16", True),
    ({"LayerType": "CaskConvolution", "Inputs": [{"Format": "Row major linear FP16 format"}]}, "fp16", True),
    ({"LayerType": "gemm", "Inputs": [{"Datatype": "BFloat16", "Format": "N/A due to dynamic shapes"}]}, "bf16", True),
    ({"LayerType": "Convolution", "Inputs": [{"Format/Datatype": "Thirty-two wide Int8 format"}]}, "int8", True),
    ({"LayerType": "CaskConvolution", "Weights": {"Type": "Float", "Count": 9}, "Inputs": []}, "fp32", True),
    (
        {
            "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": "Float"}],
            "TacticName": "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16",
        },
        "tf32",
        True,
    ),
    ({"LayerType": "CaskConvolution"}, "unknown", True),
    ({"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Half"}], "TacticName": "convertTo"}, "fp16", False),
    ({"LayerType": "PointWiseV2", "Inputs": [{"Format/Datatype": "Float"}]}, "fp32", False),
]


@pytest.mark.parametrize(("told", "dtype", "is_work"), LAYERS)
def test_a_layer_is_read_as_the_inspector_tells_it(told, dtype, is_work):
    (layer,) = layers_of(json.dumps({"Layers": [{"Name": "a", **told}]}))
    assert (layer.dtype, layer.is_matrix_work) == (dtype, is_work)


def test_only_layers_that_ran_count():
    layers = layers_of(json.dumps({"Layers": [{"Name": name, **LAYERS[0][0]} for name in "ab"]}))
    assert work_of(layers, {"a": 1.0}).count == 1
    assert work_of(layers, {}).clock == "operator"


def test_where_it_cannot_run_the_reason_gives_the_way(monkeypatch):
    gpu = fake_tensorrt.FakeGpu()
    assert "--device cuda" in engine.supports(open_device("cpu"), "fp32")
    assert "autocast" in engine.supports(gpu, "amp_fp16")
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert "requirements/tensorrt.txt" in engine.supports(gpu, "fp32")
    assert (ROOT / "requirements" / "tensorrt.txt").exists()
