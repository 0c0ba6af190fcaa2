"""Networks that answer with more than logits are measured on their logits by every engine, or skipped with a reason."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from harness.artefacts import default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.engines import engine_names, open_engine, unsupported
from models import build
from models.catalog import find_spec, load_catalog
from models.logits import LogitsAt, LogitsUnder, UnknownAnswer, logits_only
from selftests.inside import TINY, run_here
from selftests.logits import reference_logits, run_logits

SPEC = find_spec(TINY, load_catalog())
SLOW = ("compile", "aot")
Named = namedtuple("Named", "features logits")


class Network(torch.nn.Module):
    """Logits of 5 classes from the mean of the pixels, and the features before them."""

    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 5)

    def parts(self, images):
        features = torch.relu(self.body(images)).mean((2, 3))
        return features, self.head(features)

    def forward(self, images):
        return self.parts(images)[1]


class Tuple(Network):
    def forward(self, images):
        features, logits = self.parts(images)
        return logits, features


class NamedTuple(Network):
    def forward(self, images):
        features, logits = self.parts(images)
        return Named(features, logits)


class Dictionary(Network):
    def forward(self, images):
        features, logits = self.parts(images)
        return {"features": features, "logits": logits}


class Features(Network):
    def forward(self, images):
        return {"first": self.parts(images)[0]}


def network(kind):
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_network_that_answers_with_logits_is_left_as_it_is(images):
    module = network(Network)
    assert logits_only(module, lambda: images) is module


def test_a_network_of_a_known_library_is_not_asked():
    module = build.build_module(SPEC).module
    assert logits_only(module, lambda: pytest.fail("it was asked")) is module


@pytest.mark.parametrize("kind", [Tuple, NamedTuple, Dictionary])
@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in engine_names()]
)
def test_every_engine_measures_the_logits(engine, kind, images):
    case, device = Case("m", "cpu", "fp32", 2, engine), open_device("cpu")
    if reason := unsupported(case, device):
        pytest.skip(reason)
    module = logits_only(network(kind), lambda: images[:1])
    assert isinstance(module, LogitsUnder if kind is Dictionary else LogitsAt)
    right = reference_logits(network(Network), images)
    runner = open_engine(engine).build(module, images, case, device, default_artefacts(SPEC))
    try:
        np.testing.assert_allclose(run_logits(runner, images, 2), right, rtol=0, atol=1e-4)
    finally:
        runner.close()


@pytest.mark.parametrize("answer", [{}, {"out": 3}, (), ["a"], "logits", None])
def test_an_answer_without_logits_is_refused(answer):
    class Odd(torch.nn.Module):
        def forward(self, images):
            return answer

    with pytest.raises(UnknownAnswer, match="it answers with"):
        logits_only(Odd(), lambda: torch.zeros(1))


def test_a_model_whose_logits_cannot_be_found_is_skipped_with_that_reason(monkeypatch):
    monkeypatch.setattr(build, "_create", lambda spec: network(Features))
    outcome = run_here(
        *("tests_perf/test_latency.py", "--model", TINY, "--precision", "fp32", "--batch-size", "1"),
        *("--engine", "eager", "--device", "cpu"),
    )
    assert outcome.code == 5, outcome.text
    assert "it answers with a dictionary of first, and none is `logits`" in outcome.text
    assert "1 skipped" in outcome.text
