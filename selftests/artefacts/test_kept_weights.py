"""Random weights that are kept once they are alive: the same to the last bit, made once, and made where none can be."""

import resource
import signal

import pytest
import torch

from harness.artefacts import ArtefactCache, KeptWeights
from models import build
from models.build import build_module
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY


@pytest.fixture
def made(monkeypatch):
    """How often weights were made alive."""
    calls, really = [], build.make_alive
    monkeypatch.setattr(build, "make_alive", lambda *given: (calls.append(1), really(*given)))
    return calls


@pytest.mark.parametrize("name", [TINY, "ssd_mobilenet_v1_025"])
def test_kept_weights_are_those_that_were_made_and_are_made_once(name, tmp_path, made):
    spec, kept = find_spec(name, load_catalog()), KeptWeights(ArtefactCache(tmp_path))
    plain, first, second = (build_module(spec, kept=given) for given in (None, kept, kept))
    assert len(made) == 2, "without a place to keep them, and once with it"
    assert plain.weights_sha256 == first.weights_sha256 == second.weights_sha256
    images = torch.rand(1, 3, *spec.input.size)
    with torch.inference_mode():
        answers = [built.module(images) for built in (first, second)]
    pairs = [answers] if isinstance(answers[0], torch.Tensor) else zip(*answers, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_other_first_weights_are_not_taken_for_these(tmp_path, made):
    spec, kept = find_spec(TINY, load_catalog()), KeptWeights(ArtefactCache(tmp_path))
    first, other = (build_module(spec, seed=seed, kept=kept) for seed in (0, 1))
    assert len(made) == 2
    assert first.weights_sha256 != other.weights_sha256


def test_where_nothing_can_be_kept_they_are_made(tmp_path, made):
    (tmp_path / "file").touch()
    spec, kept = find_spec(TINY, load_catalog()), KeptWeights(ArtefactCache(tmp_path / "file"))
    assert build_module(spec, kept=kept).weights_sha256 == build_module(spec).weights_sha256
    assert len(made) == 2


def test_a_disk_that_is_full_does_not_lose_what_was_made(tmp_path, made):
    """A file that must not grow beyond 8 KiB stands for the disk: the kernel refuses the rest of the state."""
    spec, kept = find_spec(TINY, load_catalog()), KeptWeights(ArtefactCache(tmp_path))
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        built = build_module(spec, kept=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.rglob("state.pt")), "nothing was refused"
    assert built.weights_sha256 == build_module(spec).weights_sha256
    assert len(made) == 2, "and they are not made twice, which would be others"
