"""Residual networks with group norms on openvino, whose CPU plugin must not fuse them: it would end the process."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import Case
from harness.devices import open_device
from harness.engines import openvino
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY

CASE = Case("net", "cpu", "fp32", 2, "openvino")
IMAGES = torch.rand(2, 3, 32, 32)


class Residual(nn.Module):
    """A group norm whose result is added to something."""

    def __init__(self, norm):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), norm(32), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(32, 32, 3, padding=1), norm(32)

    def forward(self, x):
        x = self.stem(x)
        return torch.relu(x + self.norm(self.conv(x))).mean((2, 3))


def built(norm, folder, precision="fp32"):
    torch.manual_seed(0)
    module = Residual(norm).eval().requires_grad_(False)
    artefacts = Artefacts(ArtefactCache(folder), lambda: generated_calibration(find_spec(TINY, load_catalog())))
    runner = openvino.build(module, IMAGES, replace(CASE, precision=precision), open_device("cpu"), artefacts)
    return module, runner


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_residual_network_with_group_norms_is_compiled_and_answers(precision, tmp_path):
    module, runner = built(lambda channels: nn.GroupNorm(8, channels), tmp_path, precision)
    found = runner.fetch(runner.submit(runner.put(IMAGES)))["logits"]
    assert torch.from_numpy(found).allclose(module(IMAGES), atol=1e-5 if precision == "fp32" else 0.1)
    assert runner.evidence(runner.put(IMAGES)).notes["fuses_elementwise"] is False
    runner.close()


def test_others_are_fused(tmp_path):
    _, runner = built(nn.BatchNorm2d, tmp_path)
    assert runner.evidence(runner.put(IMAGES)).notes["fuses_elementwise"] is True
    runner.close()
