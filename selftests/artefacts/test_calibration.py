"""Calibration images are others than those evaluated, the same every time, and told in the record."""

import pytest
import torch

from harness.artefacts import generated_calibration
from harness.data import NoImages, sample_images, write_generated_jpegs
from harness.data.sampling import CALIBRATION_IMAGES, split_calibration
from harness.measure.calibration import data_calibration
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY, run_here

SPEC = find_spec(TINY, load_catalog())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_generated_jpegs(tmp_path_factory.mktemp("images"), 40)


def test_the_sample_is_seeded_and_apart_from_what_is_evaluated(files):
    chosen, rest = split_calibration(files)
    assert len(chosen) == 20
    assert not set(chosen) & set(rest)
    assert sorted([*chosen, *rest], key=files.index) == files
    assert rest == sorted(rest, key=files.index)
    assert split_calibration(files) == (chosen, rest)
    assert chosen != sample_images(files, 20), "drawn as the evaluated sample is"


def test_a_large_data_set_gives_no_more_than_is_needed(files):
    chosen, rest = split_calibration(files * 100)
    assert len(chosen) == CALIBRATION_IMAGES
    assert not set(chosen) & set(rest)


def test_too_few_images_for_both_is_an_error_with_the_way_out(files, tmp_path):
    with pytest.raises(NoImages, match="takes 16 for both, not 15"):
        split_calibration(files[:15])
    write_generated_jpegs(tmp_path, 3)
    outcome = run_here("--model", TINY, "--precision", "int8", "--random-weights", f"--data={tmp_path}")
    assert outcome.code == 4, outcome.text
    assert "drop --precision int8 or --data" in outcome.text


def test_the_calibrations_hash_follows_the_images(files):
    one, again, other = (data_calibration(SPEC, "d", part) for part in (files[:8], files[:8], files[8:16]))
    assert one.sha256 == again.sha256 != other.sha256
    assert one.record() == {"source": "d", "images": 8, "seed": 1, "sha256": one.sha256}
    images = one.load()
    assert images.shape == (8, 3, *SPEC.input.size)
    assert images.dtype == torch.float32


def test_generated_images_to_calibrate_on_are_not_those_whose_answers_are_checked():
    from harness.proof import input_images

    calibration = generated_calibration(SPEC, 4)
    assert calibration.source == "generated"
    assert calibration.sha256 != generated_calibration(SPEC, 5).sha256
    images, checked = calibration.load(), input_images(SPEC, 4)
    assert all(not torch.equal(mine, other) for mine in images for other in checked)
