"""A torch module becomes an ONNX file that holds the same model, or an error."""

import numpy as np
import onnx
import pytest
import torch

from harness.engines.onnx import export
from harness.engines.onnx.export import ExportError, check_onnx, export_onnx
from harness.proof import input_images
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.tasks.classify import sqnr_db
from selftests.inside import TINY
from selftests.logits import reference_logits

SPEC = find_spec(TINY, load_catalog())
IMAGES = input_images(SPEC, 5)
SHAPE = tuple(IMAGES.shape[1:])


@pytest.fixture(scope="module")
def module():
    return build_module(SPEC).module


def answers(path, images):
    onnxruntime = pytest.importorskip("onnxruntime", reason="runs the file that was exported")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images.numpy()})[0]


@pytest.fixture(scope="module")
def dynamic(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(module, IMAGES[:1], path, dynamic_batch=True)
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_file_of_dynamic_batch_answers_any_number_of_images(module, dynamic, count):
    reference = reference_logits(module, IMAGES)
    assert sqnr_db(reference, np.concatenate([answers(dynamic, chunk) for chunk in IMAGES.split(count)])) > 80


def test_a_file_of_static_batch_takes_that_many_alone(module, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(module, IMAGES[:2], path, dynamic_batch=False)
    assert sqnr_db(reference_logits(module, IMAGES[:2]), answers(path, IMAGES[:2])) > 80
    check_onnx(path, 2, SHAPE)
    with pytest.raises(ExportError, match="was asked for"):
        check_onnx(path, None, SHAPE)


def test_the_file_tells_nothing_of_the_machine_and_has_no_batch_norm_left(dynamic):
    assert str(export.__file__).encode() not in dynamic.read_bytes()
    assert b"site-packages" not in dynamic.read_bytes()
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(dynamic).graph.node}


def test_weights_go_beside_the_file_only_where_they_have_to(module, tmp_path, monkeypatch):
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, most in ((small, export.MOST_EMBEDDED_BYTES), (large, 1000)):
        folder.mkdir()
        monkeypatch.setattr(export, "MOST_EMBEDDED_BYTES", most)
        export_onnx(module, IMAGES[:1], folder / "model.onnx", dynamic_batch=False)
    assert [path.name for path in small.iterdir()] == ["model.onnx"]
    assert sorted(path.name for path in large.iterdir()) == ["model.onnx", "model.onnx.data"]
    np.testing.assert_array_equal(answers(small / "model.onnx", IMAGES[:1]), answers(large / "model.onnx", IMAGES[:1]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda model: setattr(model.graph.node[0], "op_type", "NoSuchOperator"), "no sound ONNX file"),
        (lambda model: setattr(model.opset_import[0], "version", 19), "operator set 19"),
        (
            lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 8),
            "no sound|was asked for",
        ),
    ],
    ids=["operator", "operator set", "shape"],
)
def test_a_file_that_is_not_what_was_asked_for_is_an_error(dynamic, tmp_path, spoil, words):
    model = onnx.load(dynamic)
    spoil(model)
    onnx.save(model, tmp_path / "spoilt.onnx")
    with pytest.raises(ExportError, match=words):
        check_onnx(tmp_path / "spoilt.onnx", None, SHAPE)


def test_the_module_is_left_as_it_was(module, tmp_path):
    before = module(IMAGES[:1])
    export_onnx(module, IMAGES[:1], tmp_path / "model.onnx", dynamic_batch=True)
    assert torch.equal(module(IMAGES[:1]), before)
    assert not module.training
