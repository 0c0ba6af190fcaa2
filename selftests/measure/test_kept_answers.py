"""The reference's answers are used again only while everything that decided them is the same."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from harness.artefacts import ArtefactCache
from harness.measure.accuracy.kept_answers import kept_answers, sources
from harness.measure.accuracy.run import Answers

IDENTITY = {"weights_sha256": "a", "source": "timm:x", "preprocessing": {"fingerprint": "b"}}
SAMPLE = SimpleNamespace(images=[], sha256=lambda: "c")


@pytest.fixture
def ask(tmp_path):
    """Asks for the answers, and returns how often they were computed until now."""
    computed = []

    def compute():
        computed.append(1)
        return Answers(np.zeros((1, 5), np.int16), (), 1.0, 1)

    def asked(**identity):
        kept_answers(ArtefactCache(tmp_path / "cache"), {**IDENTITY, **identity}, SAMPLE, compute)
        return len(computed)

    return asked


def test_answers_are_computed_once(ask):
    assert [ask(), ask()] == [1, 1]
    assert ask(weights_sha256="other") == 2


def test_answers_of_which_a_file_could_not_be_read_are_not_kept(tmp_path):
    """It may have been a disk that was gone for a moment, and would stay an error for ever."""
    computed = []

    def compute():
        computed.append(1)
        return Answers(np.full((1, 5), -1, np.int16), ("a.jpg: gone",), 1.0, 1)

    found = [kept_answers(ArtefactCache(tmp_path / "cache"), IDENTITY, SAMPLE, compute) for _ in range(2)]
    assert len(computed) == 2
    assert all(one.unreadable == ("a.jpg: gone",) for one in found)


def test_other_code_computes_them_again(ask, tmp_path, monkeypatch):
    source = tmp_path / "run.py"
    source.write_text("one")
    # the package gives the function of that name, and not its module
    monkeypatch.setattr(import_module("harness.measure.accuracy.kept_answers"), "sources", lambda: [source])
    assert [ask(), ask()] == [1, 1]
    source.write_text("two")
    assert ask() == 2


def test_the_code_is_that_of_models_decoding_engine_and_run():
    names = {"/".join(path.parts[-2:]) for path in sources()}
    assert {
        "models/build.py",
        "models/preprocess.py",
        "tasks/classify.py",
        "data/images.py",
        "torch/runner.py",
        "eager/__init__.py",
        "measure/pipeline.py",
        "accuracy/run.py",
    } <= names
