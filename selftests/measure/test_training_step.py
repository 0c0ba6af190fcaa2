"""The training step: what its row holds, and that each sabotage of it rings."""

import json

import pytest
import torch
from timm.layers import DropPath
from torchvision.ops import StochasticDepth

from harness.cases import Case, Duration
from harness.devices import open_device
from harness.engines import _ENGINES, cannot_train, eager
from harness.engines.torch.training import TorchTrainingStep
from harness.measure.training_step import measure_training_step, windows_of
from harness.proof import Contradiction, training
from harness.proof.first_step import sqnr_db
from models.catalog import find_spec, load_catalog
from models.tasks import WrongAnswers
from selftests.inside import TINY, Replacing, run_here

SPEC = find_spec(TINY, load_catalog())


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Warm up as little as the proof needs."""
    monkeypatch.setattr(training, "WARMUP_CAP_S", 0.0)


@pytest.fixture(scope="module")
def reference_of():
    held = []

    def of(compute):
        held[:] = held or [compute()]
        return held[0]

    return of


@pytest.mark.parametrize(
    ("layer", "rate"),
    [(torch.nn.Dropout2d(0.5), "p"), (StochasticDepth(0.5, "row"), "p"), (DropPath(0.5), "drop_prob")],
)
def test_every_kind_of_dropout_is_off_in_a_step(layer, rate):
    module = torch.nn.Sequential(layer, torch.nn.Identity()).train()
    images = torch.ones(64, 3, 2, 2)
    assert not torch.equal(module(images), images)
    assert training.without_dropout(module) == 1
    assert getattr(layer, rate) == 0
    assert torch.equal(module(images), images)


class Sabotaging:
    """The engine eager with a training step of another class."""

    def __init__(self, kind):
        self.kind = kind

    def supports(self, device, precision):
        return None

    def build(self, *arguments):
        return eager.build(*arguments)

    def trains(self, device, precision):
        return None

    def build_step(self, *arguments):
        step = eager.build_step(*arguments)
        step.__class__ = self.kind
        return step


def prepared(kind, reference_of, monkeypatch, precision="fp32"):
    monkeypatch.setitem(_ENGINES, "eager", Sabotaging(kind))
    # the reference is built by the true engine, which it takes from its module
    return training.prepare_step(Case(TINY, "cpu", precision, 4, "eager"), SPEC, "random", reference_of)


def run_rounds(kind, target, next_arguments, batches=None):
    rounds_s = []
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
        rounds_s.append(0.5)
    return rounds_s


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16", "bf16"])
def test_a_true_step_is_proven_in_both_passes(precision, reference_of, monkeypatch):
    if reason := open_device("cpu").supports(precision):
        pytest.skip(reason)
    ready = prepared(TorchTrainingStep, reference_of, monkeypatch, precision)
    ready.require_proof()
    work = "fp32" if precision == "fp32" else "bf16"
    assert ready.forward.dtype_share_pct[work] > 90
    assert ready.backward.dtype_share_pct[work] > 90
    # each convolution has two gradients in one operator, and the classifier's product has one each
    assert ready.backward.matrix_ops >= ready.forward.matrix_ops > 10
    record = ready.record()
    assert record["evidence"]["parameter_dtypes"].keys() == {"bfloat16" if precision == "bf16" else "float32"}
    ready.close()


def test_the_row_holds_rate_percentiles_phases_and_memory(reference_of, monkeypatch):
    ready = prepared(TorchTrainingStep, reference_of, monkeypatch)
    row = measure_training_step(ready, Duration(0.0, None, 7), run_rounds)
    assert row.rounds == 7
    assert row.images == 28
    assert row.images_per_second == pytest.approx(28 / 3.5)
    assert row.p50_low_ms == row.p50_ms == 500
    assert min(row.forward_ms, row.backward_ms, row.optimiser_ms) > 0
    assert ready.record()["peak_memory_mib"] > 0
    ready.close()


class FreezesOneLayer(TorchTrainingStep):
    def forward(self, batch):
        next(self.module.parameters()).requires_grad_(False)
        return super().forward(batch)


class SkipsBackward(TorchTrainingStep):
    def backward(self, loss):
        pass


class DetachesLoss(TorchTrainingStep):
    def forward(self, batch):
        return super().forward(batch).detach()


class NeverUpdates(TorchTrainingStep):
    def update(self):
        pass


class LearnsOtherClasses(TorchTrainingStep):
    def put(self, images, labels):
        return super().put(images, labels.roll(1))


class ForgetsLastLayers(TorchTrainingStep):
    """A backward pass whose gradients are zeros from some layer on."""

    def backward(self, loss):
        super().backward(loss)
        for parameter in list(self.module.parameters())[:5]:
            parameter.grad.zero_()


class StaysInFp32(TorchTrainingStep):
    def forward(self, batch):
        images, labels = batch
        return self._terms.loss(self._forward(images), labels)


@pytest.mark.parametrize(
    ("kind", "precision", "words"),
    [
        (FreezesOneLayer, "fp32", "conv_stem.weight got no gradient: frozen or detached"),
        (SkipsBackward, "fp32", "got no gradient: frozen or detached"),
        (DetachesLoss, "fp32", "the loss is detached"),
        (NeverUpdates, "fp32", "parameters as they were"),
        (LearnsOtherClasses, "fp32", "the gradients of the first step are"),
        (ForgetsLastLayers, "fp32", "got a gradient of zeros"),
        (
            StaysInFp32,
            "amp_bf16",
            "backward pass: label says amp_bf16, but convolution and matrix time was 100.0% fp32",
        ),
    ],
)
def test_a_sabotage_of_the_step_rings(kind, precision, words, reference_of, monkeypatch):
    if reason := open_device("cpu").supports(precision):
        pytest.skip(reason)
    with pytest.raises((Contradiction, WrongAnswers), match=words):
        prepared(kind, reference_of, monkeypatch, precision).require_proof()


def test_compile_that_fell_back_to_eager_rings(reference_of, monkeypatch):
    monkeypatch.setitem(_ENGINES, "compile", Sabotaging(TorchTrainingStep))
    ready = training.prepare_step(Case(TINY, "cpu", "fp32", 4, "compile"), SPEC, "random", reference_of)
    with pytest.raises(Contradiction, match="backward pass: label says engine compile, but eager ran"):
        ready.require_proof()
    ready.close()


@pytest.mark.slow
def test_a_compiled_step_is_proven_in_both_passes(reference_of):
    ready = training.prepare_step(Case(TINY, "cpu", "fp32", 4, "compile"), SPEC, "random", reference_of)
    ready.require_proof()
    assert ready.forward.engine == ready.backward.engine == "compile"
    assert ready.forward.graphs == 1
    assert measure_training_step(ready, Duration(0.0, None, 3), run_rounds).rounds == 3
    ready.close()


def test_steps_that_stop_training_once_they_are_proven_ring(reference_of, monkeypatch):
    ready = prepared(TorchTrainingStep, reference_of, monkeypatch)
    ready.require_proof()
    ready.step.__class__ = NeverUpdates
    with pytest.raises(Contradiction, match="timed training steps changed no parameter"):
        measure_training_step(ready, Duration(0.0, None, 3), run_rounds)
    ready.close()


def test_fp16_scales_its_loss_and_takes_the_scale_off_its_gradients(reference_of):
    """On the CPU, whose fp16 is slow where it is supported at all, and says the same of the arithmetic."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 2])
    found = {}
    for precision in ("fp32", "amp_fp16"):
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 4))
        torch.nn.init.constant_(module[1].weight, 1e-3)
        torch.nn.init.zeros_(module[1].bias)
        case = Case(TINY, "cpu", precision, 2, "eager")
        step = eager.build_step(module, (images, labels), case, open_device("cpu"), training.step_terms())
        step.submit(step.put(images, labels))
        found[precision] = step.gradients()["1.weight"]
    assert sqnr_db(found["fp32"], found["amp_fp16"]) > 40


@pytest.mark.parametrize(
    ("engine", "precision", "words"),
    [
        ("openvino", "fp32", "openvino is for inference and trains no model: use --engine eager, compile"),
        ("eager", "int8", "int8 is for inference"),
        ("eager", "tf32", "tf32 is a mode of NVIDIA matrix units"),
    ],
)
def test_what_cannot_train_says_why(engine, precision, words):
    assert words in cannot_train(engine, open_device("cpu"), precision)


def test_every_step_is_in_one_window():
    rounds = list(map(float, range(13)))
    assert [one for part in windows_of(rounds) for one in part] == rounds
    assert [len(part) for part in windows_of(rounds)] == [2, 3, 2, 3, 3]
    assert len(windows_of([1.0, 2.0])) == 2


def test_the_product_test_prints_a_proven_row_and_no_unproven_one(tmp_path):
    arguments = ("tests_perf/test_training_step.py", "--model", TINY, "--precision", "fp32", "--engine", "eager,trace")
    arguments += ("--batch-size", "4", "--max-test-duration", "0.1", "--device", "cpu", "--allow-skips")
    outcome = run_here(*arguments, f"--benchmark-json={tmp_path}/out.json")
    assert outcome.code == 0, outcome.text
    assert "1 passed, 1 skipped" in outcome.text
    assert "trace is for inference and trains no model" in outcome.text
    (row,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert row["extra_info"]["measurement"] == "training_step"
    assert f"training step ({TINY}" not in outcome.text
    assert "100%/100%" in outcome.text

    class Lying(Replacing):
        def trains(self, device, precision):
            return None

        def build_step(self, *arguments):
            return Sabotaging(SkipsBackward).build_step(*arguments)

    outcome = run_here(*arguments, plugin=Lying("eager", eager.build))
    assert outcome.code == 1, outcome.text
    assert "got no gradient" in outcome.text
    assert "visionmark ==" not in outcome.text, "a row was printed that was not proven"


@pytest.mark.parametrize(("words", "count"), [((), 0), (("-k", "training_step"), 1)])
def test_a_plain_run_leaves_training_out(words, count):
    outcome = run_here("tests_perf", "--model", TINY, "--engine", "eager", "--precision", "fp32", "--collect-only", "-q", *words)  # fmt: skip  # noqa: E501
    assert outcome.text.count("test_training_step[") == count, outcome.text
