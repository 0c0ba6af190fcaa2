"""Answers compared with a reference: right, noisy, swapped, stale, constant, NaN."""

import numpy as np
import pytest
import torch

from models.tasks import WrongAnswers
from models.tasks.classify import EXACT_DB, describe_wrong_logits, spread, sqnr_db, top1_agreement_pct
from selftests.logits import reference_logits

RANDOM = np.random.default_rng(0)
REFERENCE = (RANDOM.normal(size=(8, 1000)) + 5).astype(np.float32)


def test_equal_answers_are_exact():
    assert sqnr_db(REFERENCE, REFERENCE.copy()) == EXACT_DB


@pytest.mark.parametrize("db", [10, 20, 40, 60])
def test_noise_of_a_known_size_is_measured(db):
    noise = RANDOM.normal(size=REFERENCE.shape) * 10 ** (-db / 20)
    assert sqnr_db(REFERENCE, (REFERENCE + noise).astype(np.float32)) == pytest.approx(db, abs=1)


def test_another_images_answers_are_below_every_floor_however_alike_the_answers_are():
    alike = (REFERENCE - 5) * 0.2 + 5  # images differ by 4% of the norm
    assert sqnr_db(alike, np.roll(alike, 1, axis=0)) < 0


def test_a_constant_reference_cannot_judge():
    constant = np.ones((8, 10), np.float32)
    with pytest.raises(WrongAnswers, match="could not be told"):
        sqnr_db(constant, constant)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(bad):
    broken = REFERENCE.copy()
    broken[3, 7] = bad
    with pytest.raises(WrongAnswers, match="1 of 8000 logits are NaN or infinite"):
        sqnr_db(REFERENCE, broken)


def test_another_shape_is_wrong():
    with pytest.raises(WrongAnswers, match="shape"):
        sqnr_db(REFERENCE, REFERENCE[:, :10])


def test_top1_agreement_counts_images():
    other = REFERENCE.copy()
    other[0, (other[0].argmax() + 1) % 1000] = 100
    assert top1_agreement_pct(REFERENCE, other) == 87.5


def test_the_kind_of_wrong_is_told():
    assert "permuted" in describe_wrong_logits(REFERENCE, np.roll(REFERENCE, 1, axis=0))
    assert "same answer" in describe_wrong_logits(REFERENCE, np.repeat(REFERENCE[:1], 8, axis=0))
    assert "other weights" in describe_wrong_logits(REFERENCE, -REFERENCE)


def test_spread_is_a_share_of_the_norm():
    assert spread(np.ones((4, 10), np.float32)) == 0
    assert spread(np.eye(4, dtype=np.float32)) == pytest.approx(np.sqrt(3) / 2)


def test_the_reference_is_the_module_itself():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    images = torch.randn(3, 3, 2, 2)
    with torch.no_grad():
        np.testing.assert_allclose(reference_logits(module, images), module(images).numpy(), rtol=1e-5)
