"""Detectors with suppression inside: which engines run them, what they answer, and who says no with a reason."""

import numpy as np
import pytest
import torch

from harness.artefacts import default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.engines import build, engine_names, unsupported
from models.catalog import load_catalog
from models.detectors.whole import WHOLE
from selftests.detectors import small_whole

MODEL = "ssdlite320_mobilenet_v3_large"
CPU = open_device("cpu")
IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def case_of(engine, precision="fp32"):
    return Case(MODEL, "cpu", precision, 2, engine, settings=("whole",))


@pytest.mark.parametrize("engine", ["eager", "trace", "onnxruntime"])
def test_every_image_of_a_batch_gets_its_own_objects(engine):
    """Each has another number of objects, which no graph may hold as a constant."""
    case = case_of(engine)
    if reason := unsupported(case, CPU):
        pytest.skip(reason)
    module = small_whole()
    wanted = [one.numpy() for one in module(IMAGES)]
    scores = np.sort(wanted[1].ravel())
    module.network.score_thresh = float(scores[len(scores) // 2])
    wanted = [one.numpy() for one in module(IMAGES)]
    counts = (wanted[1] > 0).sum(axis=1)
    assert len(set(counts.tolist())) > 1
    runner = build(module, IMAGES[:2], case, CPU, default_artefacts(load_catalog()[MODEL]))
    for at in (0, 2):
        found = runner.fetch(runner.submit(runner.put(IMAGES[at : at + 2])))
        assert found.names == WHOLE
        for own, array in zip(wanted, found, strict=True):
            np.testing.assert_allclose(array, own[at : at + 2], rtol=1e-4, atol=1e-4)
    runner.close()


@pytest.mark.parametrize("engine", [name for name in engine_names() if name not in ("eager", "trace", "onnxruntime")])
def test_an_engine_that_cannot_says_so(engine):
    """Where the engine is installed and runs on this device, the reason is that of the setting."""
    reason = unsupported(case_of(engine), CPU)
    assert reason
    if unsupported(Case(MODEL, "cpu", "fp32", 2, engine), CPU) is None:
        assert reason.startswith(f"{engine} runs no detector whole: ") and "drop --whole-model" in reason


@pytest.mark.parametrize(
    ("engine", "precision", "words"),
    [
        ("eager", "amp_bf16", None),
        ("eager", "bf16", "use --precision fp32 or amp_bf16"),
        ("trace", "amp_bf16", "no casts for suppression"),
        ("onnxruntime", "int8", "a quantiser takes the arithmetic of boxes for layers"),
    ],
)
def test_a_precision_that_suppression_has_not_says_so(engine, precision, words):
    reason = unsupported(case_of(engine, precision), CPU)
    assert reason is None if words is None else words in reason
