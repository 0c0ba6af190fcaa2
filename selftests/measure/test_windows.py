"""How long a measurement lasts."""

import math
from itertools import count

import pytest

from harness.cases import Duration, wants_more
from harness.measure import stream_window
from harness.measure.drift import slope_pct
from harness.measure.throughput import LEAST_WINDOWS, window_batches, window_limit
from harness.proof import warmup
from harness.proof.warmup import is_steady


def run_rounds(duration, round_s):
    rounds, elapsed_s = 0, 0.0
    while wants_more(duration, rounds, elapsed_s):
        rounds += 1
        elapsed_s += round_s
    return rounds, elapsed_s


def run_windows(duration, batch_s, estimate_s=None, between_s=0.0):
    """Return the sizes of the windows and the seconds of them all; between two of them, `between_s` pass untimed."""
    sizes, timed_s = [], 0.0
    while size := window_batches(
        duration, len(sizes), sum(sizes), timed_s + len(sizes) * between_s, timed_s, estimate_s or batch_s
    ):
        sizes.append(size)
        timed_s += size * batch_s
    return sizes, timed_s


def test_what_passes_between_windows_counts_towards_the_longest_duration_and_not_the_least():
    assert run_windows(Duration(min_s=1, max_s=None, min_rounds=0), 0.01, estimate_s=0.02, between_s=0.1)[1] >= 1
    sizes, timed_s = run_windows(Duration(min_s=60, max_s=2, min_rounds=0), 0.01, between_s=0.1)
    assert timed_s + (len(sizes) - 1) * 0.1 <= 2 + 0.01


def test_the_minimum_is_reached():
    rounds, elapsed_s = run_rounds(Duration(min_s=5, max_s=None, min_rounds=3), 0.3)
    assert 5 <= elapsed_s < 5 + 0.3
    assert rounds > 3


def test_rounds_are_reached_where_time_is_short():
    assert run_rounds(Duration(min_s=1, max_s=None, min_rounds=11), 0.5)[0] == 11


def test_the_maximum_ends_it_within_one_batch_whatever_else_is_wanted():
    _, elapsed_s = run_rounds(Duration(min_s=0, max_s=2, min_rounds=1000), 0.3)
    assert 2 <= elapsed_s < 2 + 0.3


def test_one_round_is_always_run():
    assert run_rounds(Duration(min_s=0, max_s=0, min_rounds=0), 9.0)[0] == 1
    assert run_windows(Duration(min_s=0, max_s=0, min_rounds=0), 9.0)[0] == [1]


def test_windows_hold_several_batches_and_there_are_several_windows():
    sizes, elapsed_s = run_windows(Duration(min_s=2, max_s=None, min_rounds=11), 0.01)
    assert min(sizes) > 10
    assert len(sizes) >= LEAST_WINDOWS
    assert elapsed_s >= 2


def test_windows_keep_to_minimum_and_maximum_at_once():
    _, elapsed_s = run_windows(Duration(min_s=5, max_s=6, min_rounds=11), 0.4)
    assert 5 <= elapsed_s <= 6


def test_windows_overshoot_the_maximum_by_a_batch_at_most():
    _, elapsed_s = run_windows(Duration(min_s=60, max_s=2, min_rounds=11), 0.3)
    assert 2 - 0.3 <= elapsed_s <= 2 + 0.3


def test_given_batches_are_run_exactly():
    for batches in (1, 2, 7, 50):
        duration = Duration(min_s=0, max_s=None, min_rounds=batches, batches=batches)
        assert sum(run_windows(duration, 0.1)[0]) == batches
        assert run_rounds(duration, 0.1)[0] == batches


def test_given_batches_are_repeated_until_the_minimum():
    duration = Duration(min_s=3, max_s=None, min_rounds=5, batches=5)
    assert run_windows(duration, 0.1)[1] >= 3


@pytest.mark.parametrize("batch_s", [0.001, 0.03, 0.3, 0.6, 1.0, 9.0])
def test_there_are_enough_windows_for_an_interval_however_slow_a_batch_is(batch_s):
    sizes, elapsed_s = run_windows(Duration(min_s=2, max_s=None, min_rounds=11), batch_s)
    assert len(sizes) >= LEAST_WINDOWS
    assert elapsed_s <= max(2.5, 2 * LEAST_WINDOWS * batch_s + 1e-9)


@pytest.mark.parametrize(("max_s", "batch_s"), [(2.0, 0.3), (2.0, 0.39), (5.0, 0.9), (1.0, 0.01)])
def test_there_are_enough_windows_wherever_the_maximum_has_room_for_five_batches(max_s, batch_s):
    sizes, elapsed_s = run_windows(Duration(min_s=60, max_s=max_s, min_rounds=11), batch_s)
    assert len(sizes) >= LEAST_WINDOWS
    assert elapsed_s <= max_s + batch_s


@pytest.mark.parametrize("batches", [5, 6, 7, 11, 52])
def test_given_batches_are_divided_into_enough_windows(batches):
    sizes, _ = run_windows(Duration(min_s=0, max_s=None, min_rounds=batches, batches=batches), 0.1)
    assert len(sizes) == LEAST_WINDOWS
    assert sum(sizes) == batches


def test_a_window_has_its_share_of_the_maximum_if_batches_are_slower_than_warm_up_told():
    duration = Duration(min_s=60, max_s=10, min_rounds=1)
    assert window_limit(duration, windows=0, elapsed_s=0.0) == 2.0
    assert window_limit(duration, windows=4, elapsed_s=9.0) == 1.0
    assert window_limit(duration, windows=7, elapsed_s=9.0) == 1.0
    assert window_limit(Duration(min_s=2, max_s=None, min_rounds=1), 0, 0.0) == math.inf


def test_warm_up_is_steady_once_rounds_get_neither_faster_nor_slower():
    assert not is_steady([])
    assert not is_steady([1.0] * 5)
    assert is_steady([1.0] * 6)
    assert not is_steady([1.0] * 3 + [0.5] * 3)
    assert is_steady([3.0, 1.0] + [0.5] * 6)
    assert not is_steady([0.5] * 3 + [0.7] * 3), "a machine that throttles is not steady"


def test_rounds_that_are_too_long_for_six_are_judged_by_fewer():
    assert is_steady([2.0] * 5)
    assert not is_steady([2.0] * 4), "there is time for more"
    assert not is_steady([4.0, 2.0, 2.0, 2.5])
    assert is_steady([20.0, 20.0])
    assert not is_steady([20.0]), "one round tells nothing"


class Counted:
    """A runner that counts what is submitted to it."""

    def __init__(self):
        self.submitted = 0

    def submit(self, batch):
        self.submitted += 1

    def synchronize(self):
        pass


def test_warm_up_runs_two_rounds_however_long_they_are(monkeypatch):
    monkeypatch.setattr(warmup, "perf_counter", count(0, 60.0).__next__)
    runner = Counted()
    assert warmup.warm_up(runner, [None]) == [60.0, 60.0]
    assert runner.submitted == 2


class Window:
    """A window that begins at a time, and is over after some rounds."""

    def __init__(self, go_at_s):
        self.go_at_s = go_at_s
        self.reported = []

    def is_stopped(self):
        return False

    def report(self, rounds):
        self.reported.append(rounds)

    def is_everyone_done(self):
        return True


class Stepping(Counted):
    """A runner whose request takes a given time on a clock of its own."""

    def __init__(self, step_s):
        super().__init__()
        self.now_s, self.step_s, self.began_s = 0.0, step_s, []

    def submit(self, batch):
        super().submit(batch)
        self.began_s.append(self.now_s)
        self.now_s += self.step_s

    def sleep(self, wait_s):
        self.now_s += wait_s


@pytest.mark.parametrize(("step_s", "untimed"), [(0.125, 7), (0.375, 2), (1.0, 1), (2.0, 1)])
def test_a_stream_runs_untimed_until_the_common_start(monkeypatch, step_s, untimed):
    """A stream that was ready early has stood still; its first timed request must not be the one that wakes it."""
    runner = Stepping(step_s)
    monkeypatch.setattr(stream_window, "perf_counter", lambda: runner.now_s)
    monkeypatch.setattr(stream_window, "sleep", runner.sleep)
    duration = Duration(min_s=0, max_s=None, min_rounds=4)
    noted = []
    found = stream_window.run_window(
        runner, ["a", "b", "c"], duration, Window(1.0), "stream 1", lambda output, batch: noted.append(batch)
    )
    assert noted == ["a"], "the last of four"
    assert found.untimed_rounds == untimed
    assert found.began_s == max(1.0, step_s)
    assert found.rounds_s == [step_s] * 4
    assert [began_s for began_s in runner.began_s if began_s >= found.began_s] == runner.began_s[untimed:]


def test_the_slope_is_the_latest_third_against_the_first():
    assert slope_pct([1.0, 1.0]) is None
    assert slope_pct([1.0, 9.0, 2.0]) == pytest.approx(100)
    assert slope_pct([2.0] * 10 + [1.0] * 10 + [1.0] * 10) == pytest.approx(-50)
    assert slope_pct([1.0] * 29 + [50.0]) == 0, "one round that was held up is no drift"
