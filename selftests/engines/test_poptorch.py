"""The device ipu and the engine poptorch: held to the package's signatures, and on a mock where there is no IPU."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.artefacts import ArtefactCache, Artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.devices.ipu import REFUSED_VARIABLES
from harness.engines import poptorch as engine
from harness.engines import unsupported
from harness.engines.poptorch import program
from harness.engines.poptorch.graph import NoGraph, read_compiled_graph
from harness.proof import References, prepare
from harness.proof.contradictions import contradictions
from harness.proof.inputs import image_places
from harness.proof.parts import check_parts
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs, WrongAnswers, classify
from selftests.engines import fake_poptorch as fake
from selftests.inside import ROOT, TINY, run_command

SIGNATURES = json.loads((ROOT / "selftests" / "engines" / "poptorch_signatures.json").read_text())
SOURCES = [*(ROOT / "harness" / "engines" / "poptorch").glob("*.py"), ROOT / "harness" / "devices" / "ipu.py"]
CASE = Case("net", "ipu", "fp16", 2, "poptorch", settings=("d2",))
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions and a classifier, whose answers differ from image to image."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 64, 10)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu()).flatten(1))


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def poptorch(monkeypatch):
    """The mock in place of the package, with four free IPUs and none of the variables that are refused."""
    fake.reset()
    monkeypatch.setitem(sys.modules, "poptorch", fake)
    for name in REFUSED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield fake
    fake.reset()


def built(case, tmp_path, module=None):
    example = torch.cat([IMAGES] * 4)[: case.images]
    artefacts = Artefacts(ArtefactCache(tmp_path), pytest.fail)
    return engine.build(module or net(), example, case, open_device(case.device), artefacts)


def found_against(case, runner):
    """What the evidence says against the label, as one text."""
    batch = runner.put(torch.cat([IMAGES] * 4)[: case.images])
    return "; ".join(contradictions(case, open_device(case.device), runner.evidence(batch)))


def parameters_of(function):
    found = []
    for one in inspect.signature(function).parameters.values():
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        default = "" if one.default is one.empty else f"={one.default!r}"
        found.append(f"{star}{one.name}{default}")
    return [name for name in found if name != "self"]


def test_the_mock_has_the_parameters_of_the_package():
    compared = 0
    for name, parameters in SIGNATURES["methods"].items():
        owner, _, method = name.rpartition(".")
        holder = getattr(fake, owner, None) if owner else fake
        function = None if holder is None else getattr(holder, method, None)
        if function is not None and function is not object.__init__:
            assert parameters_of(function) == parameters, name
            compared += 1
    assert compared > 30
    for name in ("OutputMode", "OverlapMode"):
        assert {one.name: one.value for one in getattr(fake, name)} == SIGNATURES["enums"][name]


def test_nothing_is_used_that_the_package_does_not_have():
    """Every attribute of the package, of its options and of its executor that our sources name is in the table."""
    methods = {name.partition(".")[0] for name in SIGNATURES["methods"]} | set(SIGNATURES["enums"])
    known = methods | {"Options", "OverlapMode", "OutputMode", "Error", "__version__"}
    own = {"Options", "_PrecisionOptions", "_DistributedOptions", "_TensorLocationOptions", "_PopartOptions"}
    of_options = {name.partition(".")[2] for name in SIGNATURES["methods"] if name.partition(".")[0] in own}
    of_options |= set(SIGNATURES["properties"]["Options"])
    of_executor = {name.partition(".")[2] for name in SIGNATURES["methods"] if name.startswith("PoplarExecutor.")}
    seen = {"library": set(), "options": set(), "executor": set()}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            base = ast.unparse(node.value)
            if base in ("library", "poptorch", "self._library") or base.endswith(".library") and node.attr != "library":
                seen["library"].add(node.attr)
            elif base.partition(".")[0] == "options" and path.name == "options.py" or base.endswith("program.options"):
                seen["options"].add(node.attr)
            elif base.endswith(("executor", "_executor")):
                seen["executor"].add(node.attr)
    assert len(seen["library"]) > 8 and seen["library"] <= known, seen["library"] - known
    assert len(seen["options"]) > 8 and seen["options"] <= of_options, seen["options"] - of_options
    assert len(seen["executor"]) > 4 and seen["executor"] <= of_executor, seen["executor"] - of_executor


def test_the_table_is_that_of_an_installed_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "poptorch")
    package = pytest.importorskip("poptorch", reason="poptorch is not installed: it comes with Graphcore's SDK")
    for name, parameters in SIGNATURES["methods"].items():
        owner, _, method = name.rpartition(".")
        if not owner.startswith("_"):
            assert parameters_of(getattr(getattr(package, owner) if owner else package, method)) == parameters, name


def test_a_right_program_is_proven_and_every_iteration_and_replica_is(tmp_path):
    case = replace(CASE, replicas=2, settings=("d2", "hp"))
    assert case.images == 8 and case.processes == 1
    runner = built(case, tmp_path)
    assert found_against(case, runner) == ""
    evidence = runner.evidence(runner.put(IMAGES))
    assert evidence.dtype_share_pct == {"fp16": 100.0} and evidence.matrix_ops == 3
    assert evidence.notes["partials"] == {"half": 3} and len(evidence.notes["iteration_ms"]) == 4
    assert runner.compilations() == 1
    runner.close()
    assert fake.machine.taken == 0, "the IPUs are not let go"


def test_a_second_run_reads_the_graph_that_the_first_compiled(tmp_path):
    for state in ("made", "cached"):
        runner = built(CASE, tmp_path)
        assert runner.evidence(runner.put(IMAGES[:4])).notes["artefact"] == state
        runner.close()


def test_a_program_of_another_sdk_is_made_again(tmp_path, monkeypatch):
    built(CASE, tmp_path).close()
    monkeypatch.setattr(fake, "__version__", "1 (mock)")
    runner = built(CASE, tmp_path)
    assert runner.evidence(runner.put(IMAGES[:4])).notes["artefact"] == "made"
    runner.close()


@pytest.mark.parametrize(
    ("sabotage", "case", "words"),
    [
        ("partials", replace(CASE, settings=("d2", "hp")), "label says partial sums in half, but .* 3 in float"),
        ("replicas", replace(CASE, replicas=2), "2 iterations in 2 replicas, but the IPU counted 2 steps and not 4"),
        ("stale", CASE, "counters are those of an earlier call: this one did not run"),
        (
            "synthetic",
            CASE,
            "counted no input: nothing was copied, so that nothing ran on it or its data was synthetic",
        ),
    ],
)
def test_what_did_not_run_as_the_label_says_rings(sabotage, case, words, tmp_path):
    runner = built(case, tmp_path)
    runner.close()
    fake.machine.sabotage = frozenset({sabotage})
    runner = built(case, tmp_path / "sabotaged")
    assert re.search(words, found_against(case, runner)), found_against(case, runner)
    runner.close()


def test_a_model_left_in_fp32_rings(tmp_path):
    runner = built(replace(CASE, precision="fp32"), tmp_path)
    evidence = runner.evidence(runner.put(IMAGES[:4]))
    assert "label says fp16, but convolution and matrix time was 100.0% fp32" in "; ".join(
        contradictions(CASE, open_device("ipu"), evidence)
    )
    runner.close()


def test_the_simulator_is_refused_and_rings(tmp_path, monkeypatch):
    monkeypatch.setenv("POPTORCH_DEFAULT_OPTIONS", '{"use_model": true}')
    runner = built(CASE, tmp_path)
    assert "poptorch on the IPU model, a simulator ran" in found_against(CASE, runner)
    runner.close()
    assert (
        "POPTORCH_DEFAULT_OPTIONS is set, and it sets options of every program unseen" in open_device("ipu").available()
    )
    monkeypatch.delenv("POPTORCH_DEFAULT_OPTIONS")
    monkeypatch.setenv("POPTORCH_IPU_MODEL", "1")
    assert "a simulator's times mean nothing" in open_device("ipu").available()


def answers_of(case, runner, batch):
    return runner.fetch(runner.submit(batch))


def reference():
    with torch.no_grad():
        return Outputs(("logits",), (net()(IMAGES).numpy(),))


def check(case, runner):
    batch = runner.put(IMAGES[image_places(case, len(IMAGES), 0)])
    check_parts(classify, case, [answers_of(case, runner, batch)], reference())


def test_swapped_iterations_are_heard_though_each_answer_is_right(tmp_path):
    case = replace(CASE, settings=("d4",))
    runner = built(case, tmp_path)
    check(case, runner)
    fake.machine.sabotage = frozenset({"swapped"})
    with pytest.raises(
        WrongAnswers, match="answers of iteration 1, replica 1 are .* iterations or replicas are swapped"
    ):
        check(case, runner)
    runner.close()


def test_channels_last_weights_are_uploaded_as_a_contiguous_copy(tmp_path, monkeypatch):
    runner = built(CASE, tmp_path, net().to(memory_format=torch.channels_last))
    check(CASE, runner)
    runner.close()
    whole = torch.contiguous_format
    monkeypatch.setattr(torch, "contiguous_format", torch.channels_last)
    runner = built(CASE, tmp_path / "wrong", net())
    monkeypatch.setattr(torch, "contiguous_format", whole)
    with pytest.raises(WrongAnswers, match="iteration 1"):
        check(CASE, runner)
    runner.close()


def test_an_executable_without_its_graph_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fake, "_ir", lambda module, image, values: "unavailable (Cached executable)")
    with pytest.raises(
        program.IpuError, match=r"unavailable \(Cached executable\); an executable that another cache kept"
    ):
        built(CASE, tmp_path)
    assert fake.machine.taken == 0
    with pytest.raises(NoGraph, match="cannot be read"):
        read_compiled_graph('{"maingraph": [{}]}')


def test_a_busy_ipu_and_a_batch_that_does_not_fit_are_typed_failures(tmp_path):
    fake.machine.taken = 4
    with pytest.raises(program.IpuBusy, match="no IPU is free .Failed to acquire 1 IPU"):
        built(CASE, tmp_path)
    fake.machine.taken, fake.machine.most_images = 0, 2
    with pytest.raises(program.IpuOutOfMemory, match="4 images a submit do not fit .*; give a smaller --batch-size"):
        built(CASE, tmp_path)
    assert fake.machine.taken == 0


def test_a_batch_that_does_not_fit_names_the_report_of_the_tiles_memory(tmp_path):
    fake.machine.most_images = 2
    with pytest.raises(program.IpuOutOfMemory) as caught:
        built(CASE, tmp_path)
    (written,) = tmp_path.rglob("profile.pop")
    assert f"{written} has the memory of each tile" in str(caught.value)
    assert not list(tmp_path.rglob("*.popef")), "a program that does not fit is kept"
    fake.machine.sabotage = frozenset({"unreported"})
    with pytest.raises(program.IpuOutOfMemory, match="the SDK wrote no report of the tiles' memory into"):
        built(CASE, tmp_path)
    assert not written.exists(), "the report of an earlier run would be taken for that of this one"
    fake.machine.sabotage = frozenset()
    artefacts = Artefacts(ArtefactCache(tmp_path), pytest.fail, report_dir=tmp_path / "asked")
    with pytest.raises(program.IpuOutOfMemory, match=f"{tmp_path / 'asked'}.*profile.pop has the memory"):
        engine.build(net(), torch.cat([IMAGES] * 4)[: CASE.images], CASE, open_device("ipu"), artefacts)
    assert fake.machine.taken == 0


def test_stages_begin_at_the_layers_and_are_taken_off_again(tmp_path, monkeypatch):
    case, module = replace(CASE, settings=("d2", "split:second")), net()
    runner = built(case, tmp_path, module)
    assert found_against(case, runner) == ""
    assert runner.evidence(runner.put(IMAGES[:4])).notes["stages"] == [0, 1]
    runner.close()
    assert not any("_block" in vars(layer) for layer in module.modules())
    with pytest.raises(ValueError, match="net has no layer 'third' to split its pipeline at"):
        built(replace(case, settings=("d2", "split:third")), tmp_path)
    monkeypatch.setattr(fake, "BeginBlock", lambda layer_to_call, user_id=None, ipu_id=None: layer_to_call)
    runner = built(case, tmp_path / "ignored")
    assert "label says 2 pipeline stages, but the compiled graph has 1" in found_against(case, runner)
    runner.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "fp32", "settings": ("hp",)}, "half partial sums are of fp16"),
        ({"settings": ("split:first",)}, "needs as many batches in a submit: add --device-iterations 2"),
        ({"replicas": 3}, "3 IPUs, and a program has a power of two"),
        ({"settings": ("d2", "io64", "split:first")}, "overlap within one stage"),
        ({"precision": "bf16"}, "take fp32 and fp16, and not bf16"),
        ({"engine": "eager"}, "eager runs where torch does"),
        ({"device": "cpu", "precision": "fp32"}, "poptorch compiles for IPUs"),
        (
            {"device": "cpu", "engine": "eager", "precision": "fp32"},
            "eager has no setting d2, .* drop --device-iterations 2",
        ),
    ],
)
def test_what_cannot_run_together_says_why(change, words):
    case = replace(CASE, **change)
    assert re.search(words, unsupported(case, open_device(case.device)) or "nothing")


def test_an_ipu_that_is_not_there_says_why(monkeypatch):
    assert open_device("ipu").available() is None
    assert open_device("ipu:4").available() == "poptorch.ipuHardwareIsAvailable() knows 4 IPUs"
    fake.machine.ipus = 0
    assert "ipuHardwareIsAvailable() is False" in open_device("ipu").available()
    monkeypatch.delitem(sys.modules, "poptorch")
    assert "make setup-poptorch WHEEL=" in open_device("ipu").available()


def test_an_absent_ipu_that_was_named_is_a_usage_error():
    done = run_command("tests_perf/test_latency.py", "--device", "ipu", "--collect-only")
    assert done.code == 4 and "no ipu device (poptorch is not installed" in done.text


def test_a_case_is_prepared_and_proven_as_on_any_device(tmp_path):
    spec = find_spec(TINY, load_catalog())
    case = Case(TINY, "ipu", "fp32", 2, "poptorch", replicas=2, settings=("d2", "u8"))
    artefacts = Artefacts(ArtefactCache(tmp_path), pytest.fail)
    ready = prepare(case, spec, "random", References(spec, "random"), artefacts=artefacts)
    ready.require_proof()
    record = ready.record()
    ready.close()
    assert record["case"].endswith("-ipu-fp32-bs2-poptorch-r2-d2-u8")
    assert record["input_bytes_per_image"] == 3 * 160 * 160 and record["evidence"]["answers_sqnr_db"] > 60
    assert fake.machine.taken == 0
