"""The statistics of a gate: known values, their level by simulation, and the three outcomes."""

import numpy as np
import pytest

from harness.measure.accuracy.thresholds import compare, published_floor, wilson


def answers(images, right, lost, won):
    """What reference and candidate have right, for so many images, right ones and flips."""
    reference = np.zeros(images, dtype=bool)
    reference[:right] = True
    candidate = reference.copy()
    candidate[:lost] = False
    candidate[right : right + won] = True
    return reference, candidate


def test_wilson_is_the_published_one():
    """838 of 1,000: the formula by hand gives 81.388 to 85.953."""
    interval = wilson(838, 1000)
    assert (interval.pct, interval.low_pct, interval.high_pct) == pytest.approx((83.8, 81.388, 85.953), abs=1e-3)


def test_the_floor_on_the_whole_set_is_mlperfs():
    """76.46% x 0.99: the figure in MLPerf's table."""
    floor = published_floor(76.46, 1.0, 50_000, 50_000)
    assert floor.pct == pytest.approx(75.6954)
    assert "76.460% published x 0.99" in floor.terms
    assert "chance" not in floor.terms


def test_a_sample_has_slack_that_shrinks_to_nothing():
    slacks = [75.6954 - published_floor(76.46, 1.0, images, 50_000).pct for images in (500, 5_000, 49_999, 50_000)]
    assert slacks == sorted(slacks, reverse=True)
    assert slacks[1] == pytest.approx(1.6449 * 100 * np.sqrt(0.756954 * 0.243046 / 5000 * 45_000 / 49_999), rel=1e-3)
    assert slacks[-1] == pytest.approx(0, abs=1e-9)


def test_equal_answers_hold_where_there_are_enough():
    paired = compare(*answers(1000, 838, 0, 0), 1.0)
    assert paired.verdict == "holds"
    assert (paired.right_to_wrong, paired.wrong_to_right, paired.loss_points) == (0, 0, 0)
    assert paired.needs_images is None


def test_equal_answers_of_few_images_say_nothing():
    """No flip in 100 images still allows a loss of 3 in 100."""
    paired = compare(*answers(100, 84, 0, 0), 1.0)
    assert paired.verdict == "cannot tell"
    assert 100 < paired.needs_images < 1000


def test_identical_answers_hold_whatever_their_number():
    paired = compare(*answers(2, 2, 0, 0), 1.0, is_identical=True)
    assert (paired.verdict, paired.needs_images) == ("holds", None)
    assert str(paired).endswith("holds, for the answers to all 2 images are the same")


def test_three_points_lost_fail():
    paired = compare(*answers(1000, 838, 55, 25), 1.0)
    assert paired.verdict == "fails"
    assert paired.loss_points == pytest.approx(3)
    assert "55 right to wrong, 25 wrong to right" in str(paired)


def test_three_tenths_lost_in_a_thousand_cannot_be_told():
    paired = compare(*answers(1000, 838, 18, 15), 1.0)
    assert paired.verdict == "cannot tell"
    assert 5_000 < paired.needs_images < 15_000
    assert f"needs about {paired.needs_images:,} images, has 1,000" in str(paired)


def test_a_loss_at_the_margin_is_not_promised_a_decision():
    paired = compare(*answers(10_000, 10_000, 100, 0), 1.0)
    assert paired.verdict == "cannot tell"
    assert paired.needs_images is None
    assert "at the margin" in str(paired)


def test_better_than_the_reference_holds():
    assert compare(*answers(1000, 700, 0, 200), 1.0).verdict == "holds"


@pytest.mark.parametrize(("images", "kept_flips"), [(200, 0.03), (1000, 0.0), (1000, 0.01), (1000, 0.06), (5000, 0.01)])
def test_a_loss_at_the_margin_passes_no_more_often_than_it_may(images, kept_flips):
    """The level, by simulation: one in twenty, and at most 8% where flips are so few that chance comes in lumps."""
    generator = np.random.default_rng(0)
    margin = 0.0084
    passed = failed = 0
    runs = 700
    for lost, won, _ in generator.multinomial(
        images, [margin + kept_flips, kept_flips, 1 - margin - 2 * kept_flips], size=runs
    ):
        verdict = compare(*answers(images, round(0.84 * images), lost, won), 1.0).verdict
        passed += verdict == "holds"
        failed += verdict == "fails"
    assert passed / runs < 0.08
    assert failed / runs < 0.08


def test_the_number_of_images_that_is_asked_for_decides():
    """At as many as it asks for, were the loss as observed, about nine in ten runs decide."""
    first = compare(*answers(1000, 840, 12, 10), 1.0)
    assert first.verdict == "cannot tell"
    generator = np.random.default_rng(1)
    needed = first.needs_images
    decided = 0
    for lost, won, _ in generator.multinomial(needed, [0.012, 0.010, 0.978], size=300):
        decided += compare(*answers(needed, round(0.84 * needed), lost, won), 1.0).verdict == "holds"
    assert 0.8 < decided / 300 < 0.98
