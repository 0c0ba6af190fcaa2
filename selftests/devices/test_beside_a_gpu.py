"""A machine with an NVIDIA GPU, as far as torch says so: rows of its CPU are proven, and nothing touches the GPU."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from harness.cases import Case
from harness.devices import open_device
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY, run_here

SPEC = find_spec(TINY, load_catalog())
CARD = SimpleNamespace(
    **{"name": "NVIDIA T-1000", "major": 9, "minor": 0, "total_memory": 2**34, "multi_processor_count": 8},
    **{"uuid": "12ab", "warp_size": 32, "max_threads_per_multi_processor": 2048, "regs_per_multiprocessor": 65536},
)


@pytest.fixture
def touched(monkeypatch):
    """The machine; the list fills with what would have used the GPU."""
    found = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: CARD)
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache", "Stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *given, name=name, **named: found.append(name))
    assert torch.backends.cudnn.allow_tf32, "torch's default, which is no switch of the CPU"
    return found


def proven(case):
    prepared = prepare(case, SPEC, "random", References(SPEC, "random"))
    try:
        prepared.require_proof()
        return prepared.proof.evidence
    finally:
        prepared.close()


def available_outside_torch():
    """Tell everybody but torch itself that there is a GPU."""
    return sys._getframe(1).f_globals["__name__"].partition(".")[0] != "torch"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["eager", "trace", "script", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_row_of_the_cpu_is_proven(engine, precision, touched, monkeypatch):
    if engine == "compile":  # dynamo and inductor would ask the driver for random states and tensors of their patterns
        monkeypatch.setattr(torch.cuda, "is_available", available_outside_torch)
        assert torch.cuda.is_available()
    if reason := open_device("cpu").supports(precision):
        pytest.skip(reason)
    evidence = proven(Case(TINY, "cpu", precision, 2, engine))
    assert set(evidence.short_formats) == {"onednn_conv", "onednn_matmul"}
    assert not any(evidence.short_formats.values())
    assert not touched


def test_the_fp32_reference_inside_the_settings_of_a_tf32_candidate_is_proven(touched, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    gpu, before = open_device("cuda"), torch.get_float32_matmul_precision()
    with gpu.settings("tf32"):
        assert gpu.short_formats() == {"matmul": True, "cudnn": True}
        proven(Case(TINY, "cpu", "fp32", 2, "eager"))
        assert gpu.short_formats() == {"matmul": True, "cudnn": True}, "the candidate's settings are back"
    assert torch.get_float32_matmul_precision() == before
    assert not touched


def test_the_header_names_the_gpu(touched):
    outcome = run_here("--collect-only", "--model", TINY, "--device", "cpu,cuda", "--engine", "eager")
    assert outcome.code == 0, outcome.text
    (line,) = [line for line in outcome.text.splitlines() if line.startswith("visionmark: ")]
    assert "cuda (NVIDIA T-1000)" in line
    assert "cpu (" in line
    assert f"{TINY}-cuda-fp32-bs1-eager" in outcome.text
    assert not touched


def test_the_gpu_is_the_default_device(touched):
    outcome = run_here("--collect-only", "-q", "-k", "fbnetc_100")
    assert "fbnetc_100-cuda-" in outcome.text
    assert "fbnetc_100-cpu-" not in outcome.text
