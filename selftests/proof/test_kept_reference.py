"""The reference's answers that are kept: computed once, and never believed without one of them computed again."""

import pytest

from harness.artefacts import ArtefactCache
from harness.proof import References, reference
from harness.proof.reference import reference_outputs
from models.catalog import find_spec, load_catalog
from models.tasks import Outputs
from selftests.inside import TINY

COUNT = 4


@pytest.fixture
def computed(monkeypatch):
    """How many answers each call of the reference computed."""
    counts = []

    def counting(module, images):
        counts.append(len(images))
        return reference_outputs(module, images)

    monkeypatch.setattr(reference, "reference_outputs", counting)
    return counts


def asked(folder, weights="random"):
    return References(find_spec(TINY, load_catalog()), weights, ArtefactCache(folder)).outputs(COUNT)["logits"]


def test_answers_are_computed_once_and_one_of_them_again(tmp_path, computed):
    first, second = asked(tmp_path), asked(tmp_path)
    assert (first == second).all()
    assert computed == [COUNT, 1]


def test_other_images_are_other_answers(tmp_path, computed, monkeypatch):
    asked(tmp_path)
    images = reference.input_images
    monkeypatch.setattr(reference, "input_images", lambda spec, count: images(spec, count).flip(0))
    asked(tmp_path)
    assert computed == [COUNT, COUNT]


def test_kept_answers_that_do_not_come_out_again_do_not_stand(tmp_path, monkeypatch):
    """The sabotage: what was kept are the answers of the images the other way round."""

    def turned(module, images):
        outputs = reference_outputs(module, images)
        return Outputs(outputs.names, [array[::-1].copy() for array in outputs])

    right = References(find_spec(TINY, load_catalog()), "random").outputs(COUNT)["logits"]
    with monkeypatch.context() as patch:
        patch.setattr(reference, "reference_outputs", turned)
        assert (asked(tmp_path) == right[::-1]).all()
    assert (asked(tmp_path) == right).all()


def test_where_nothing_can_be_kept_they_are_computed(tmp_path, computed):
    (tmp_path / "file").touch()
    asked(tmp_path / "file")
    assert computed == [COUNT]
