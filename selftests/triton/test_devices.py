"""Serving runs on what the server can serve: not on a GPU of the machine that its ONNX Runtime cannot use."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from fixtures.serving.devices import devices_to_serve
from harness.triton.control import NoBackend, load_model
from harness.triton.installation import Installation, lacks_cuda, probe, require_trustworthy
from selftests.triton.tritons import installation_or_skip, linear_model, running


def never():
    raise AssertionError("the serving environment was looked at on a machine without a GPU")


@pytest.mark.parametrize(
    ("found", "reason", "devices"),
    [
        (("cuda",), "no provider", ("cpu",)),
        (("cuda:0", "cuda:1"), "no provider", ("cpu",)),
        (("cuda",), None, ("cuda",)),
        (("cuda", "xpu"), None, ("cuda",)),
    ],
)
def test_where_none_is_asked_for_it_is_what_the_server_can_serve(found, reason, devices):
    assert devices_to_serve(found, False, lambda: reason)[0] == devices


def test_a_device_that_was_asked_for_stays_and_has_its_reason():
    assert devices_to_serve(("cuda", "cpu"), True, lambda: "no provider") == (("cuda", "cpu"), {"cuda": "no provider"})


@pytest.mark.parametrize(("found", "is_asked"), [(("cpu",), False), (("cpu",), True), (("xpu",), False)])
def test_without_a_cuda_device_nothing_is_looked_for(found, is_asked):
    assert devices_to_serve(found, is_asked, never) == (("cpu",), {})


def test_cuda_is_there_where_the_libraries_of_its_provider_are(tmp_path):
    installation = installation_or_skip()
    serving = require_trustworthy(installation)
    assert lacks_cuda(installation, replace(serving, has_cuda=True)) is None
    assert "install onnxruntime-gpu" in lacks_cuda(installation, replace(serving, has_cuda=False))
    own = tmp_path / "backends" / "onnxruntime"
    own.mkdir(parents=True)
    container = Installation(tmp_path / "tritonserver", own.parent, None, None, None)
    assert "libonnxruntime_providers_cuda.so" in lacks_cuda(container, None)
    (own / "libonnxruntime_providers_cuda.so").touch()
    assert lacks_cuda(container, None) is None


def test_the_provider_is_looked_for_beside_the_library(tmp_path, monkeypatch):
    """An ONNX Runtime that is made up, on the path of the Python that is asked."""
    folder = tmp_path / "onnxruntime"
    (folder / "capi").mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert not probe(sys.executable).has_cuda
    (folder / "capi" / "libonnxruntime_providers_cuda.so").touch()
    assert probe(sys.executable).has_cuda


def test_a_server_without_the_gpu_says_so_and_it_is_a_skip(tmp_path):
    """NoBackend is what the fixture of served models skips with."""
    with running() as server, pytest.raises(NoBackend, match="the server has no such GPU.*use --device cpu"):
        load_model(server, linear_model(tmp_path, gpu=63).artefact)
