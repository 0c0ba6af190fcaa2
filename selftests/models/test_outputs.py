"""Answers as named arrays: one of a classifier, several of other models, through every engine that is here."""

import numpy as np
import pytest
import torch

from harness.artefacts import default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.engines import engine_names, open_engine, open_saving, unsupported
from harness.engines.onnx.export import ExportError, check_onnx, export_onnx
from harness.proof.reference import reference_outputs
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs, output_names, task_of
from selftests.inside import TINY

SPEC = find_spec(TINY, load_catalog())
NAMES = ("scores", "offsets")


class TwoHeads(torch.nn.Module):
    """A small network with two outputs of different shapes."""

    output_names = NAMES

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, stride=2), torch.nn.BatchNorm2d(16), torch.nn.ReLU())
        self.scores = torch.nn.Conv2d(16, 5, 1)
        self.offsets = torch.nn.Conv2d(16, 4, 3)

    def forward(self, images):
        found = self.body(images)
        return self.scores(found).flatten(2), self.offsets(found)


def two_heads():
    torch.manual_seed(0)
    return TwoHeads().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_outputs_are_found_by_name_and_cut_and_joined():
    one = Outputs(NAMES, (np.arange(6.0).reshape(3, 2), np.arange(3.0)))
    assert len(one) == 3
    assert one["offsets"].tolist() == [0, 1, 2]
    assert [array.shape for array in one.first(2)] == [(2, 2), (2,)]
    joined = Outputs.join([one.first(1), one])
    assert joined.names == NAMES
    assert joined["offsets"].tolist() == [0, 0, 1, 2]
    kept = one.copy()
    one["offsets"][0] = 7
    assert kept["offsets"][0] == 0
    with pytest.raises(KeyError, match="no output 'logits'; there are scores, offsets"):
        one["logits"]
    with pytest.raises(ValueError, match="1 outputs for the names scores, offsets"):
        Outputs(NAMES, (np.zeros(1),))


def test_a_module_that_says_nothing_is_a_classifier():
    assert output_names(torch.nn.Linear(1, 1)) == ("logits",)
    assert output_names(two_heads()) == NAMES


def test_the_task_of_a_classifier_decodes_and_scores():
    task = task_of(SPEC)
    outputs = Outputs(("logits",), (np.array([[0, 1, 5, 2, 3, 4, 0], [9, 0, 0, 0, 0, 0, 0]], np.float32),))
    assert task.decode(outputs) == [2, 0]
    assert task.labels(outputs) == 7
    assert task.ranked(outputs).tolist() == [[2, 5, 4, 3, 1], [0, 1, 2, 3, 4]], "equal logits in the order of classes"
    scores = task.score(task.ranked(outputs), [4, 6])
    assert {name: right.tolist() for name, right in scores.items()} == {"top1": [False, False], "top5": [True, False]}


@pytest.mark.parametrize("engine", engine_names())
def test_every_engine_gives_every_output_under_its_name(engine, images):
    case = Case("two_heads", "cpu", "fp32", 4, engine)
    device = open_device("cpu")
    if reason := unsupported(case, device):
        pytest.skip(reason)
    reference = reference_outputs(two_heads(), images)
    runner = open_engine(engine).build(two_heads(), images, case, device, default_artefacts(SPEC))
    try:
        found = runner.fetch(runner.submit(runner.put(images)))
        assert found.names == NAMES
        for name in NAMES:
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], reference[name], rtol=0, atol=1e-4, err_msg=name)
    finally:
        runner.close()


def test_a_saved_model_keeps_its_outputs_names(images):
    case = Case("two_heads", "cpu", "fp32", 4, "openvino")
    device = open_device("cpu")
    if reason := unsupported(case, device):
        pytest.skip(reason)
    engine = open_saving("openvino")
    runner = open_engine("openvino").build(two_heads(), images, case, device, default_artefacts(SPEC))
    files = engine.save(runner)
    before = runner.fetch(runner.submit(runner.put(images))).copy()
    runner.close()
    loaded = engine.load(files, two_heads(), case, device)
    after = loaded.fetch(loaded.submit(loaded.put(images)))
    loaded.close()
    assert after.names == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(after[name], before[name])


def test_an_export_with_other_outputs_than_the_module_names_is_refused(tmp_path, images):
    path = tmp_path / "model.onnx"
    export_onnx(two_heads(), images, path, dynamic_batch=True)
    check_onnx(path, None, (3, 32, 32), NAMES)
    for names in (("logits",), ("offsets", "scores"), (*NAMES, "more")):
        with pytest.raises(ExportError, match="was asked for"):
            check_onnx(path, None, (3, 32, 32), names)
