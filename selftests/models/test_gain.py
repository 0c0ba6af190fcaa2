"""The gain of heads: a scale is found out at any noise, and noise alone is none."""

import numpy as np
import pytest

from harness.cases import PRECISIONS
from harness.proof.answers import short_of
from models.catalog import load_catalog
from models.detectors.rfcn import BINS, BOX_MAPS
from models.tasks import Outputs, task_of
from models.tasks.gain import by_coordinate, gain

RNG = np.random.default_rng(0)
IMAGES, ROWS = 4, 1917
CODES = RNG.normal(size=(IMAGES, ROWS, 4)).astype(np.float32)
TASK = task_of(load_catalog()["ssd_mobilenet_v1_075"])


def with_noise(db):
    """Noise of so many dB below the signal."""
    return CODES + 10 ** (-db / 20) * RNG.normal(size=CODES.shape).astype(np.float32)


def muddled(db):
    """Noise of so many dB below the signal in the place of signal, as a deep network in a short format has it."""
    kept = 1 - 10 ** (-db / 10) / 2
    return kept * CODES + (1 - kept**2) ** 0.5 * RNG.normal(size=CODES.shape).astype(np.float32)


@pytest.mark.parametrize("noisy", [with_noise, muddled])
@pytest.mark.parametrize("db", [4, 10, 30, 60])
def test_noise_alone_is_no_gain(noisy, db):
    assert gain(by_coordinate("codes", CODES), by_coordinate("codes", noisy(db))) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("noisy", [with_noise, muddled])
@pytest.mark.parametrize(("db", "within"), [(4, 0.31), (10, 0.08), (30, 0.01)])
@pytest.mark.parametrize("scale", [1.5, 0.5])
def test_a_scale_shows_at_any_noise(noisy, db, within, scale):
    found = gain(by_coordinate("codes", CODES), by_coordinate("codes", scale * noisy(db)))
    assert found == pytest.approx(scale, abs=within)
    assert abs(found - 1) > PRECISIONS["int8"].gain_tolerance


@pytest.mark.parametrize("coordinate", range(4))
def test_one_coordinate_that_is_scaled_is_found_among_the_others(coordinate):
    scaled = with_noise(30)
    scaled[..., coordinate] *= 1.5
    assert gain(by_coordinate("codes", CODES), by_coordinate("codes", scaled)) == pytest.approx(1.5, abs=0.05)
    assert gain(by_coordinate("logits", CODES), by_coordinate("logits", scaled)) < 1.2, "looked at as one"


def test_the_bins_of_a_coordinate_of_position_sensitive_maps_belong_together():
    maps = RNG.normal(size=(IMAGES, 4 * BINS * BINS, 3, 5)).astype(np.float32)
    scaled = maps.copy()
    scaled[:, BINS * BINS : 2 * BINS * BINS] *= 0.5
    assert gain(by_coordinate(BOX_MAPS, maps), by_coordinate(BOX_MAPS, scaled)) == pytest.approx(0.5)


def test_a_coordinate_that_hardly_tells_images_apart_has_no_gain_of_its_own():
    faint = CODES * np.array([1, 1, 1, 0.01], np.float32)
    noisy = faint + np.array([0, 0, 0, 0.1], np.float32) * RNG.normal(size=CODES.shape).astype(np.float32)
    assert gain(by_coordinate("codes", faint), by_coordinate("codes", noisy)) == pytest.approx(1)


def outputs_of(codes):
    logits = np.tile(CODES.mean(axis=2, keepdims=True), (1, 1, 91)) * np.arange(1, 92, dtype=np.float32)
    return Outputs(("codes", "logits"), (codes, logits))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_codes_half_as_large_again_are_refused_in_every_precision_though_noise_allows_them(precision):
    """Their ratio of signal to noise is one that a coarse format may have."""
    found = TASK.compare(outputs_of(CODES), outputs_of(1.5 * CODES))
    assert found.heads_gain["codes"] == pytest.approx(1.5)
    assert found.sqnr_db > PRECISIONS["int8"].sqnr_floor_db
    told = short_of(found, precision)
    assert told is not None
    if precision == "int8":
        assert "the head codes is 1.50 times as large as the fp32 reference's, and int8 allows" in told
    noisy = TASK.compare(outputs_of(CODES), outputs_of(with_noise(12)))
    assert short_of(noisy, precision) is None, "as much noise as int8 has"
