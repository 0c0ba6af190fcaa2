"""Contracts that every device and engine present keeps, on a small network."""

import gc
import weakref
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.artefacts import default_artefacts, generated_calibration
from harness.cases import PRECISIONS, Case
from harness.devices import device_names, open_device, place_of
from harness.engines import engine_names, open_engine, unsupported
from harness.engines.compile.operands import ConvolutionFormats
from harness.engines.torch import runner as torch_runner
from harness.proof import References, input_images, prepare
from harness.proof.contradictions import contradictions
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.tasks.classify import sqnr_db
from selftests.inside import ROOT, TINY
from selftests.logits import reference_logits, run_logits

PRESENT = [name for name in device_names() if open_device(name).available() is None]
SPEC = find_spec(TINY, load_catalog())
# ranges of so few images are rough, and enough to tell a right engine from a wrong one
ARTEFACTS = replace(default_artefacts(SPEC), calibration=lambda: generated_calibration(SPEC, 16))
CASES = [
    Case(TINY, device, precision, 4, engine)
    for device in PRESENT
    for precision in PRECISIONS
    for engine in engine_names()
]


def slowly(case):
    """The case, marked where a compiler of C++ takes long: `aot` has quicker tests of its own."""
    return pytest.param(case, marks=[pytest.mark.slow] if case.engine == "aot" else [])


@pytest.mark.parametrize("case", tuple(map(slowly, CASES)), ids=str)
def test_an_engine_runs_what_it_says_and_answers_right(case):
    device = open_device(case.device)
    reason = unsupported(case, device)
    if reason:
        pytest.skip(reason)
    module = build_module(SPEC).module
    images = input_images(SPEC, 8)
    reference = reference_logits(module, images)
    held = ExitStack()
    held.enter_context(device.settings(case.precision))
    runner = held.enter_context(closing(open_engine(case.engine).build(module, images[:4], case, device, ARTEFACTS)))
    with held:
        compilations = runner.compilations()
        logits = run_logits(runner, images, 4)
        assert logits.dtype == np.float32
        assert sqnr_db(reference, logits) >= PRECISIONS[case.precision].sqnr_floor_db
        source = images[:4].clone()
        batch = runner.put(source)
        source.zero_()
        again = runner.fetch(runner.submit(batch))["logits"]
        np.testing.assert_allclose(again, logits[:4], rtol=0, atol=0.02 * float(np.abs(logits[:4]).max()))
        evidence = runner.evidence(runner.put(images[:4]))
        assert contradictions(case, device, evidence) == []
        assert evidence.threads["intra_op"] == torch.get_num_threads()
        if PRECISIONS[case.precision].calibrated:
            quantisation = evidence.quantisation
            assert quantisation.operators + len(quantisation.float_layers) == evidence.matrix_ops
            assert quantisation.calibration == ARTEFACTS.calibration().record()
        assert runner.compilations() == compilations


def test_the_formats_of_convolutions_are_read_from_the_graphs_that_are_compiled():
    full, short, both = ConvolutionFormats(), ConvolutionFormats(), ConvolutionFormats()
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 1)).eval()
    for formats, amp in ((full, False), (short, True), (both, False), (both, True)):
        assert formats is both or formats.of_all() is None
        torch._dynamo.reset()
        with (
            torch._inductor.config.patch(freezing=True, post_grad_custom_post_pass=formats),
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=amp),
        ):
            torch.compile(network)(torch.ones(1, 4, 8, 8))
    torch._dynamo.reset()
    assert (full.of_all(), short.of_all(), both.of_all()) == ("fp32", "bf16", None)


@pytest.mark.parametrize("name", device_names())
def test_an_absent_device_gives_its_reason(name):
    if name in PRESENT:  # skipped here, because a list that is empty where all are present would fail the whole file
        pytest.skip(f"{name} is present")
    assert open_device(name).available()


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "tpu", "cpu:1", ""])
def test_a_device_that_cannot_be_is_refused(name):
    with pytest.raises(ValueError, match="cpu"):
        open_device(name)


def test_an_index_is_part_of_the_devices_name():
    assert open_device("cuda:1").name == "cuda:1"
    assert place_of(open_device("cuda")) == "cuda:0"
    assert open_device("cuda:1").index == 1


@pytest.mark.parametrize(
    "engine", [pytest.param("aot", marks=pytest.mark.slow), *(one for one in engine_names() if one != "aot")]
)
def test_closing_a_case_lets_its_model_go(engine):
    case = Case(TINY, "cpu", "fp32", 2, engine)
    if reason := unsupported(case, open_device("cpu")):
        pytest.skip(reason)
    module = build_module(SPEC).module
    parameter = weakref.ref(next(module.parameters()))
    runner = open_engine(engine).build(module, input_images(SPEC, 2), case, open_device("cpu"), ARTEFACTS)
    del module
    runner.close()
    gc.collect()
    assert parameter() is None


def test_settings_are_put_back():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with open_device("cpu").settings("fp32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_prepared_case_is_warm_and_proven():
    case = Case(TINY, "cpu", "fp32", 2, "eager")
    phases = []
    prepared = prepare(case, SPEC, "random", References(SPEC, "random"), phases.append)
    prepared.require_proof()
    assert prepared.cost.warmup_rounds >= 2
    assert prepared.proof.agreement.sqnr_db >= 60
    assert len(prepared.batches) >= 2
    assert not torch.equal(prepared.batches[0], prepared.batches[1])
    assert phases[0] == "loading"
    assert "checking answers" in phases
    prepared.close()


def test_fused_batch_norm_is_replaced_where_the_device_asks(monkeypatch):
    spec = find_spec("fbnetc_100", load_catalog())
    monkeypatch.setattr(torch_runner, "PLAIN_BATCHNORM", ("cpu",))
    module = build_module(spec).module
    images = input_images(spec, 2)
    reference = reference_logits(module, images)
    runner = open_engine("eager").build(
        module, images, Case("fbnetc_100", "cpu", "fp32", 2, "eager"), open_device("cpu"), ARTEFACTS
    )
    kinds = {type(layer).__name__ for layer in module.modules()}
    assert "BatchNorm2d" in kinds
    assert "BatchNormAct2d" not in kinds
    assert sqnr_db(reference, run_logits(runner, images, 2)) > 100
    runner.close()


@pytest.mark.parametrize("engine", ["eager", "trace", "script", "compile"])
def test_torch_engines_run_channels_last(engine):
    case = Case(TINY, "cpu", "fp32", 2, engine)
    images = input_images(SPEC, 2)
    runner = open_engine(engine).build(build_module(SPEC).module, images, case, open_device("cpu"), ARTEFACTS)
    assert runner.evidence(runner.put(images)).memory_format == "channels_last"
    runner.close()


def test_openvino_that_is_not_installed_is_a_reason_with_the_way_out(monkeypatch):
    from harness.engines import openvino

    monkeypatch.setattr(openvino, "find_spec", lambda name: None)
    assert "pip install -r requirements/engines.txt" in openvino.supports(open_device("cpu"), "fp32")
    assert "--device cpu" in openvino.supports(open_device("cuda"), "fp32")
    assert (ROOT / "requirements" / "engines.txt").exists()
