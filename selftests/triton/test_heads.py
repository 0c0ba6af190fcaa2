"""A detector is served with its heads as named outputs, and an answer is right only if each of them is."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.artefacts import ArtefactCache
from harness.cases import Case, Duration
from harness.triton.answers import require_own_answers, rows_of_outputs
from harness.triton.clients import all_traffics
from harness.triton.control import unload_model
from harness.triton.export import NotServable, export_case
from harness.triton.host import serve
from harness.triton.overhead import SERVED_WAYS, measure_overhead
from harness.triton.repository import config_text
from harness.triton.served import ask_once
from models.catalog import find_spec, load_catalog
from models.tasks import WrongAnswers
from selftests.triton.test_answers import clock
from selftests.triton.tritons import IMAGES, SIZE, linear_model, running

CODES, LOGITS = (5, 4), (5, 3)
WIDTHS = (20, 15)


def detector(folder, order=("codes", "logits")):
    """A served case of two heads, of which the one is a thousand times as large as the other."""
    made = linear_model(folder, "two_heads")
    random = np.random.default_rng(3)
    pixels = 3 * SIZE * SIZE
    weights = {
        "codes": 1000 * random.standard_normal((pixels, WIDTHS[0]), dtype=np.float32),
        "logits": random.standard_normal((pixels, WIDTHS[1]), dtype=np.float32),
    }
    shapes = {"codes": CODES, "logits": LOGITS}
    nodes = [helper.make_node("Flatten", ["images"], ["flat"])]
    for name in order:
        nodes += [
            helper.make_node("MatMul", ["flat", f"{name}_weight"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "two_heads",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shapes[name]]) for name in order],
        [numpy_helper.from_array(weights[name], f"{name}_weight") for name in order]
        + [numpy_helper.from_array(np.array([-1, *shapes[name]]), f"{name}_shape") for name in order],
    )
    file = made.artefact.file
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    images = np.concatenate(made.batches).reshape(IMAGES, -1)
    reference = rows_of_outputs(images @ weights[name] for name in ("codes", "logits"))
    heads = (("codes", CODES), ("logits", LOGITS))
    return replace(made, artefact=replace(made.artefact, labels=(), heads=heads), reference=reference)


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


@pytest.mark.parametrize("order", [("codes", "logits"), ("logits", "codes")])
def test_every_way_of_asking_gives_both_heads_of_each_image(server, tmp_path, order):
    served = serve(detector(tmp_path, order), server)
    assert served.target.outputs == ("codes", "logits")
    for traffic in all_traffics([4]):
        assert served.require_own_answers(ask_once(served, traffic)) > 60
    measured = measure_overhead(served, Duration(0.0, None, 1, batches=12), clock)
    assert measured.rounds == 12 and all(getattr(measured, f"{way}_p10_ms") for way in SERVED_WAYS)
    unload_model(server, served.name)


def test_a_head_that_is_wrong_is_found_beside_one_that_is_a_thousand_times_as_large():
    random = np.random.default_rng(0)
    reference = np.concatenate([1000 * random.standard_normal((4, 20)), random.standard_normal((4, 15))], axis=1)
    rows = reference.copy()
    rows[2, 20:] = reference[1, 20:]
    asked = [[0, 1, 2, 3]]
    assert require_own_answers(reference, asked, [rows], 40) > 40, "as one output it would not be seen"
    with pytest.raises(WrongAnswers, match="1 of 4 answers .* image 2"):
        require_own_answers(reference, asked, [rows], 40, WIDTHS)
    assert require_own_answers(reference, asked, [reference], 40, WIDTHS) == 200
    zeroed = np.concatenate([reference[:, :20], np.zeros((4, 15))], axis=1)
    with pytest.raises(WrongAnswers, match="4 of 4 answers"):
        require_own_answers(reference, asked, [zeroed], 40, WIDTHS)


def test_the_configuration_has_an_output_for_each_head_and_no_labels(tmp_path):
    artefact = detector(tmp_path).artefact
    made = artefact.config("python")
    assert [(one["name"], one["dims"]) for one in made["output"]] == [("codes", [5, 4]), ("logits", [5, 3])]
    assert "label" not in config_text(made)
    torchscript = replace(artefact, file=tmp_path / "model.pt").config("pytorch")
    assert [one["name"] for one in torchscript["output"]] == ["OUTPUT__0", "OUTPUT__1"]


def test_a_detector_of_two_networks_is_refused_before_anything_is_exported(tmp_path):
    spec = find_spec("fasterrcnn_fbnetv3a", load_catalog())
    case = Case(spec.name, "cpu", "fp32", 1, "onnxruntime")
    with pytest.raises(NotServable, match="fasterrcnn_fbnetv3a is two networks .* ssd_mobilenet_v1_075"):
        export_case(case, spec, "random", ArtefactCache(tmp_path), 1, lambda phase: None)
    assert not list(tmp_path.rglob("*.onnx"))
