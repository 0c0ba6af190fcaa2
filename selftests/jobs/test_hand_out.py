"""Every piece is done once, whichever worker dies, hangs or lies; and if it cannot be, that is an error."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.jobs.crews.hand_out import HandOut
from harness.jobs.spawn import JobFailed
from harness.proof import Contradiction
from selftests.jobs.crews import Item, PlayedCrew

ITEMS = [Item(index) for index in range(24)]


def handed(crew, items=ITEMS):
    """What came of handing out the items: how, and how often each was kept."""
    kept = Counter()
    hand_out = HandOut(crew, lambda text: None, crew.clock)
    hand_out.ready()
    done = hand_out.run(items, lambda piece, worker, run: kept.update([piece.index]))
    hand_out.finish()
    return done, kept


def once(items=ITEMS):
    return Counter({item.index: 1 for item in items})


def test_every_piece_is_done_once_and_by_everybody():
    done, kept = handed(PlayedCrew(3))
    assert kept == once()
    assert [shift.name for shift in done.shifts] == ["worker 1", "worker 2", "worker 3"]
    assert all(shift.turns for shift in done.shifts)
    assert not done.losses
    assert done.ended_s > done.began_s


@pytest.mark.parametrize("at", [0, 3, 7])
def test_what_a_dead_worker_had_is_done_by_another_and_nothing_twice(at):
    crew = PlayedCrew(2, {(1, at): "dies"})
    done, kept = handed(crew)
    assert kept == once()
    (loss,) = done.losses
    assert loss.worker == "worker 1"
    assert "SIGKILL" in loss.reason
    assert 2 <= loss.size <= 6, "one to three items of two images were in its hands"
    assert loss.replaced_s is not None
    assert {shift.name for shift in done.shifts} >= {"worker 1", "worker 2", "worker 3"}
    assert Counter(index for _, index in crew.given).most_common(1)[0][1] == 2, "only what was lost is given again"


def test_a_worker_that_dies_at_the_very_end_loses_nothing():
    """Who gives work only to the worker that was just heard would end here with pieces that nobody does."""
    crew = PlayedCrew(2, {(2, 0): "dies"}, hireable=2)
    done, kept = handed(crew, ITEMS[:2])
    assert kept == once(ITEMS[:2])
    assert done.losses[0].replaced_s is None


def test_without_any_worker_left_it_ends_and_says_how_many_are_missing():
    crew = PlayedCrew(2, {(1, 2): "dies", (2, 2): "dies"}, hireable=2)
    with pytest.raises(JobFailed, match=r"no worker is left, and \d+ of 24 pieces are missing: .*worker 1 was killed"):
        handed(crew)


def test_a_piece_that_kills_every_worker_is_named():
    crew = PlayedCrew(2, deadly=[5])
    with pytest.raises(JobFailed, match="item 5 ended 2 workers one after the other"):
        handed(crew)


def test_a_worker_that_hangs_is_ended_by_the_clock_and_its_piece_goes_to_another():
    crew = PlayedCrew(2, {(2, 3): "hangs"})
    done, kept = handed(crew)
    assert kept == once()
    assert crew.dismissed == [2]
    assert "hangs: nothing came of item" in done.losses[0].reason
    assert "in misbehave" in done.losses[0].reason


def test_a_result_that_was_not_asked_for_is_no_result():
    with pytest.raises(JobFailed, match=r"worker 1 gave a result for piece 10\d\d, which it was not given"):
        handed(PlayedCrew(2, {(1, 1): "lies"}))


def test_a_worker_that_fails_ends_the_run_with_its_traceback():
    with pytest.raises(JobFailed, match="worker 2 failed:\nTraceback: no ship"):
        handed(PlayedCrew(2, {(2, 1): "fails"}))


def test_a_worker_that_dies_before_the_start_ends_the_run():
    crew = PlayedCrew(2)
    hear = crew.hear
    crew.hear = lambda timeout_s: [type(one)(one.worker, "lost", "ended with 1") for one in hear(timeout_s)]
    with pytest.raises(JobFailed, match="worker 1 ended with 1"):
        HandOut(crew, lambda text: None, crew.clock).ready()


def test_a_worker_whose_label_is_denied_is_named():
    crew = PlayedCrew(1)
    hear = crew.hear
    denial = Contradiction("label says bf16, but fp32 ran")
    crew.hear = lambda timeout_s: [type(one)(one.worker, "denied", denial) for one in hear(timeout_s)]
    with pytest.raises(Contradiction, match="worker 1: label says bf16"):
        HandOut(crew, lambda text: None, crew.clock).ready()


def test_the_slow_end_is_shared_out():
    """No worker holds a second piece while another has none."""
    crew = PlayedCrew(4)
    handed(crew, ITEMS[:6])
    assert {worker for worker, _ in crew.given[:4]} == {1, 2, 3, 4}
