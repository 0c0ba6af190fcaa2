"""The engine aot: a package is made once, loaded from its file, and made again when anything of it is other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from harness.artefacts import ArtefactCache, Artefacts
from harness.artefacts.saved_model import OtherModel
from harness.cases import Case
from harness.devices import open_device
from harness.engines import aot
from harness.engines.aot import package
from harness.engines.aot.step import StepReader
from harness.engines.torch import library_log
from harness.engines.torch.library_log import Primitive, parse_mkl_log, work_of
from harness.proof.answers import check_answers
from harness.proof.contradictions import contradictions
from models.tasks import Outputs, WrongAnswers, classify

CPU = open_device("cpu")
CASE = Case("net", "cpu", "fp32", 2, "aot")
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(torch.nn.Module):
    """Two convolutions and a classifier: more convolutions than products, so that no trial chooses the layout."""

    output_names = ("logits",)

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.neck = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.head = torch.nn.Linear(8 * 64, 10)

    def forward(self, images):
        return self.head(self.neck(self.body(images).relu()).flatten(1))


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net().eval().requires_grad_(False)


def artefacts_of(folder):
    return Artefacts(ArtefactCache(folder), pytest.fail)


def built(folder, module=None, case=CASE):
    return aot.build(module or net(), IMAGES[:2], case, CPU, artefacts_of(folder))


def answers(runner):
    return [runner.fetch(runner.submit(runner.put(chunk))).copy() for chunk in IMAGES.split(2)]


def check(runner):
    with torch.no_grad():
        reference = Outputs(("logits",), (net()(IMAGES).numpy(),))
    return check_answers(classify, CASE, answers(runner), reference)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the package of the network."""
    folder = tmp_path_factory.mktemp("aot")
    runner = built(folder)
    assert runner.evidence(runner.put(IMAGES[:2])).notes["artefact"] == "made"
    runner.close()
    return folder


class Made(Exception):
    """The compiler was called."""


@pytest.fixture
def compiler(monkeypatch):
    """No compiler: where one is called, that is told."""

    def make(*arguments):
        raise Made

    monkeypatch.setattr(aot, "make_package", make)


def only_package(folder):
    (found,) = folder.glob(f"*/{package.PACKAGE_NAME}")
    return found


def test_a_second_start_compiles_nothing_and_is_proven(cache, compiler):
    runner = built(cache)
    try:
        evidence = runner.evidence(runner.put(IMAGES[:2]))
        assert contradictions(CASE, CPU, evidence) == []
        assert evidence.engine == "aot" and evidence.notes["artefact"] == "cached"
        assert evidence.dtype_share_pct == {"fp32": 100.0} and evidence.matrix_ops == 3
        assert check(runner).sqnr_db > 80
        assert runner.compilations() == 0
    finally:
        runner.close()


AMP = replace(CASE, precision="amp_bf16")


def test_under_autocast_the_casts_are_in_the_package(tmp_path):
    runner = built(tmp_path, case=AMP)
    try:
        evidence = runner.evidence(runner.put(IMAGES[:2]))
        assert contradictions(AMP, CPU, evidence) == []
        assert evidence.dtype_share_pct == {"bf16": 100.0}
        assert {parameter.dtype for parameter in runner.module.parameters()} == {torch.float32}
    finally:
        runner.close()


@pytest.mark.slow
def test_casts_that_are_left_out_are_denied(tmp_path, monkeypatch):
    """The sabotage: the module is exported as it is, and autocast begins outside of it."""
    monkeypatch.setattr(aot, "Casting", lambda module, casting: module)
    runner = built(tmp_path, case=AMP)
    try:
        assert "fp32" in "; ".join(contradictions(AMP, CPU, runner.evidence(runner.put(IMAGES[:2]))))
    finally:
        runner.close()


@pytest.mark.parametrize("what", ["weights", "batch", "torch", "processor", "threads", "variable"])
def test_what_is_other_is_made_again(what, cache, compiler, monkeypatch):
    module, case, images, before = net(), CASE, IMAGES[:2], torch.get_num_threads()
    if what == "weights":
        module = net(seed=1)
    elif what == "batch":
        case, images = replace(CASE, batch=4), IMAGES[:4]
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    elif what == "processor":
        monkeypatch.setattr(package, "_processor", lambda: "another one")
    elif what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: before + 1)
    elif what == "variable":
        monkeypatch.setenv("TORCHINDUCTOR_MAX_AUTOTUNE", "1")
    with pytest.raises(Made):
        aot.build(module, images, case, CPU, artefacts_of(cache))


def test_where_inductor_keeps_its_caches_changes_nothing(cache, compiler, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    built(cache).close()


def test_a_damaged_package_is_made_again(cache, compiler):
    path = only_package(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(Made):
            built(cache)
    finally:
        path.write_bytes(whole)


def test_a_package_of_another_model_that_forges_its_manifest_rings(cache, tmp_path, monkeypatch):
    """The weights of another model in a file that the manifest vouches for."""
    built(tmp_path, net(seed=1)).close()
    other, path = only_package(tmp_path), only_package(cache)
    manifest = path.parent / "manifest.json"
    before, told = path.read_bytes(), manifest.read_text()
    forged = json.loads(told)
    forged["files"][path.name] = hashlib.sha256(other.read_bytes()).hexdigest()
    path.write_bytes(other.read_bytes())
    manifest.write_text(json.dumps(forged))
    try:
        runner = built(cache)
        with pytest.raises(WrongAnswers):
            check(runner)
        runner.close()
    finally:
        path.write_bytes(before)
        manifest.write_text(told)


def test_a_saved_package_is_loaded_and_saved_again(cache, compiler):
    runner = built(cache)
    files, right = aot.save(runner), answers(runner)
    runner.close()
    loaded = aot.load(files, net(), CASE, CPU)
    assert aot.save(loaded) == files
    for one, other in zip(answers(loaded), right, strict=True):
        np.testing.assert_array_equal(one["logits"], other["logits"])
    assert loaded.evidence(loaded.put(IMAGES[:2])).notes["artefact"] == "loaded"
    loaded.close()


@pytest.mark.parametrize("what", ["torch", "processor"])
def test_a_saved_package_of_another_machine_is_refused(what, cache, compiler):
    runner = built(cache)
    files = aot.save(runner)
    runner.close()
    facts = json.loads(files[package.FACTS_NAME])
    facts["made_for"][what] = "another"
    with pytest.raises(OtherModel, match=f"made for {what} another, not .*: save it anew"):
        aot.load({**files, package.FACTS_NAME: json.dumps(facts).encode()}, net(), CASE, CPU)


def test_fp32_under_the_label_bf16_rings(cache, compiler):
    runner = built(cache)
    evidence = runner.evidence(runner.put(IMAGES[:2]))
    runner.close()
    found = "; ".join(contradictions(replace(CASE, precision="bf16"), CPU, evidence))
    assert "label says bf16, but convolution and matrix time was 100.0% fp32" in found


def test_the_module_in_place_of_its_package_rings(cache, compiler, monkeypatch):
    module = net()
    monkeypatch.setattr(package.Package, "__call__", lambda self, batch: module(batch))
    runner = built(cache)
    evidence = runner.evidence(runner.put(IMAGES[:2]))
    runner.close()
    assert "label says engine aot, but eager ran" in "; ".join(contradictions(CASE, CPU, evidence))


def test_a_package_that_folded_no_parameter_is_not_frozen(cache, compiler, monkeypatch):
    monkeypatch.setattr(package.Package, "folded", lambda self: 0)
    runner = built(cache)
    assert runner.evidence(runner.put(IMAGES[:2])).engine == "aot without frozen parameters"
    runner.close()


@pytest.mark.slow
def test_a_package_whose_parameters_were_not_frozen_rings(tmp_path, monkeypatch):
    from torch._inductor import config

    class Thawed:
        patch = staticmethod(lambda freezing: config.patch(freezing=not freezing))

    monkeypatch.setattr(
        package, "import_module", lambda name: Thawed if name.endswith("config") else import_module(name)
    )
    runner = built(tmp_path)
    evidence = runner.evidence(runner.put(IMAGES[:2]))
    runner.close()
    assert "but aot without frozen parameters ran" in "; ".join(contradictions(CASE, CPU, evidence))


def test_a_step_of_which_no_library_tells_proves_nothing(cache, compiler, monkeypatch):
    monkeypatch.setattr(library_log, "parse_log", lambda text: [])
    monkeypatch.setattr(library_log, "parse_mkl_log", lambda text: [])
    runner = built(cache)
    evidence = runner.evidence(runner.put(IMAGES[:2]))
    runner.close()
    assert evidence.matrix_ops == 0
    assert contradictions(CASE, CPU, evidence)


LOG = """MKL_VERBOSE oneMKL 2024.0 Product build
MKL_VERBOSE SGEMM(N,N,1000,1,1280,0x7ffd,0x7f,1000) 25.13us CNR:OFF Dyn:1 FastMM:1 TID:0  NThr:1
MKL_VERBOSE SGEMM_PACK(B,N,1,2,3) 1.00ms CNR:OFF Dyn:1 FastMM:1 TID:0  NThr:1
MKL_VERBOSE SGEMM_COMPUTE(N,P,10,2,512) 2.50ms CNR:OFF Dyn:1 FastMM:1 TID:0  NThr:1
MKL_VERBOSE GEMM_BF16BF16F32(N,N,4,4,4) 500ns CNR:OFF Dyn:1 FastMM:1 TID:0  NThr:1
MKL_VERBOSE DGEMV(N,4,4) 1.00us CNR:OFF
MKL_VERBOSE SAXPY(N,4,4) 1.00us CNR:OFF
"""


def test_products_are_read_from_the_log_of_mkl():
    found = parse_mkl_log(LOG)
    assert [(one.dtype, one.time_us) for one in found] == [
        ("fp32", 25.13),
        ("fp32", 2500.0),
        ("bf16", 0.5),
        ("unknown", 1.0),
    ]
    work = work_of([*found, Primitive("bf16", "brg", 2526.63)])
    assert work.share_pct["bf16"] == pytest.approx(50.0, abs=0.1) and work.count == 5


def test_operators_in_int8_are_counted_for_the_quantisation(monkeypatch):
    class Told:
        facts = {"calibration": {"images": 4}, "float_layers": ["conv2d"]}

        def folded(self):
            return 1

    reader = StepReader(Told(), CPU, "made")
    monkeypatch.setattr(
        "harness.engines.aot.step.executed_by_libraries", lambda step: [Primitive("int8", "brg", 2.0)] * 3
    )
    reader.work(lambda: None, [])
    found = reader.prove([])
    assert (found.quantisation.operators, found.quantisation.float_layers) == (3, ("conv2d",))
