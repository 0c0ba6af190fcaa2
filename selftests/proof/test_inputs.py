"""A case with bytes in is proven against the same reference, and one that is not what it says is not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from fixtures.options.asking import Ask
from fixtures.options.settings import read_settings
from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import Case
from harness.engines.onnx.normalisation import normalisation_nodes
from harness.proof import Contradiction, References, case_images, inputs, prepare
from harness.proof.inputs import input_contradictions, nbytes_of
from models.catalog import find_spec, load_catalog
from models.normalised import Normalise
from models.tasks import WrongAnswers
from selftests.inside import TINY, run_command

SPEC = find_spec(TINY, load_catalog())
CASE = Case(TINY, "cpu", "fp32", 2, "eager", settings=("u8",))


def prepared(case, tmp_path):
    artefacts = Artefacts(ArtefactCache(tmp_path), lambda: generated_calibration(SPEC, 16))
    return prepare(case, SPEC, "random", References(SPEC, "random"), artefacts=artefacts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bytes_are_proven_and_take_a_quarter(precision, tmp_path):
    ready = prepared(replace(CASE, precision=precision), tmp_path)
    ready.require_proof()
    record = ready.record()
    ready.close()
    assert record["input_bytes_per_image"] == 3 * 160 * 160
    assert record["settings"] == "u8" and record["case"].endswith("-u8")


def test_a_model_that_normalises_otherwise_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Normalise, "forward", lambda self, images: images.to(torch.float32) / 255)
    ready = prepared(CASE, tmp_path)
    with pytest.raises(WrongAnswers, match="dB from the fp32 reference"):
        ready.require_proof()
    ready.close()


def test_numbers_in_place_of_bytes_are_found(tmp_path, monkeypatch):
    whole = inputs.case_images(replace(CASE, settings=()), SPEC, 8)
    assert input_contradictions(CASE, SPEC, whole[:2]) == [
        "label says u8, but 4 bytes were copied for each byte of an image"
    ]
    assert input_contradictions(CASE, SPEC, case_images(CASE, SPEC, 2)) == []
    assert input_contradictions(replace(CASE, settings=()), SPEC, whole[:2]) == []
    monkeypatch.setattr("harness.engines.torch.runner.input_dtype", lambda images, case: torch.float32)
    ready = prepared(CASE, tmp_path)
    with pytest.raises(Contradiction, match="label says u8, but 4 bytes"):
        ready.require_proof()
    ready.close()


def test_what_is_copied_is_read_from_what_was_put():
    class Value:
        def tensor_size_in_bytes(self):
            return 12

    assert nbytes_of(np.zeros(3, np.uint8)) == 3 and nbytes_of(torch.zeros(3)) == 12
    assert nbytes_of(Value()) == 12 and nbytes_of(object()) is None


@pytest.mark.slow
def test_quantising_leaves_the_normalisation_alone(tmp_path):
    ready = prepared(replace(CASE, precision="int8", engine="onnxruntime"), tmp_path)
    ready.require_proof()
    ready.close()
    for path in tmp_path.rglob("model.onnx"):
        graph = onnx.load(str(path)).graph
        assert [node.op_type for node in normalisation_nodes(graph)] == ["Cast", "Mul", "Add"]


def typed(**given):
    """The options as they are read, with these on the command line."""
    values = {f"visionmark_{name}": value for name, value in given.items()}
    return Ask(SimpleNamespace(getoption=values.get, option=SimpleNamespace()), {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"eight_bit_io": "yes", "normalization_location": "host"}, "normalised on the device"),
        ({"normalization_location": "none"}, "was trained on normalised images"),
        ({"normalization_location": "moon"}, "'moon' is none of host, device, ipu, none"),
    ],
)
def test_what_cannot_be_is_a_usage_error(given, words):
    with pytest.raises(pytest.UsageError, match=words):
        read_settings(typed(**given), [SPEC])


def test_ipu_is_another_word_for_device_and_both_places_fit_in_one_run():
    assert read_settings(typed(normalization_location="host,ipu"), [SPEC]) == ((), ("u8",))


def test_none_is_for_a_model_whose_input_is_not_normalised():
    bare = replace(SPEC, input=replace(SPEC.input, mean=(0.0,) * 3, std=(1.0,) * 3))
    assert read_settings(typed(normalization_location="none"), [bare]) == ((),)


@pytest.mark.slow
def test_the_options_reach_the_ids():
    done = run_command("tests_perf/test_latency.py", "--collect-only", "-q", "--model", TINY, "--eight-bit-io")
    assert "eager-u8]" in done.text and "eager]" not in done.text
