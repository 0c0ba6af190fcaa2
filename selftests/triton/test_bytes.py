"""A served model that takes bytes: what its requests, its configuration and its session say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.cases import Case
from harness.triton.clients import type_of
from harness.triton.host import contradictions
from harness.triton.repository import ModelFiles

FILES = ModelFiles("net", Path("model.onnx"), (32, 32), ("one", "two"), 8, 1, input_type="UINT8")
CASE = Case("net", "cpu", "fp32", 1, "onnxruntime", settings=("u8",))


def test_a_request_names_the_type_of_its_images():
    assert type_of(np.zeros(1, np.uint8)) == "UINT8"
    assert type_of(np.zeros(1, np.float32)) == "FP32"


@pytest.mark.parametrize("backend", ["onnxruntime", "python", "pytorch"])
def test_the_configuration_takes_bytes_and_answers_numbers(backend):
    config = FILES.config(backend)
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert config["output"][0]["data_type"] == "TYPE_FP32"
    assert replace(FILES, input_type="FP32").config(backend)["input"][0]["data_type"] == "TYPE_FP32"


@pytest.mark.parametrize(("loaded", "rings"), [("tensor(uint8)", False), ("tensor(float)", True)])
def test_a_session_that_takes_numbers_in_place_of_bytes_rings(loaded, rings):
    artefact = SimpleNamespace(input_type="UINT8", sha256=lambda: "x")
    session = {"providers": "CPUExecutionProvider", "input_type": loaded, "sha256": "x"}
    evidence = {"session": session, "supplied": False, "instance_group": [{"kind": "KIND_CPU"}]}
    found = contradictions(SimpleNamespace(case=CASE, artefact=artefact), evidence)
    assert found == (["the session's input is tensor(float), and the case's is tensor(uint8)"] if rings else [])
