"""How long a measurement lasts."""

from harness.cases import Duration, wants_more
from harness.measure.throughput import window_batches
from harness.proof.warmup import is_steady


def run_rounds(duration, round_s):
    rounds, elapsed_s = 0, 0.0
    while wants_more(duration, rounds, elapsed_s):
        rounds += 1
        elapsed_s += round_s
    return rounds, elapsed_s


def run_windows(duration, batch_s, estimate_s=None):
    sizes, elapsed_s = [], 0.0
    while size := window_batches(duration, sum(sizes), elapsed_s, estimate_s or batch_s):
        sizes.append(size)
        elapsed_s += size * batch_s
    return sizes, elapsed_s


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
    assert len(sizes) >= 4
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


def test_warm_up_is_steady_once_rounds_stop_getting_faster():
    assert not is_steady([1.0] * 5)
    assert is_steady([1.0] * 6)
    assert not is_steady([1.0] * 3 + [0.5] * 3)
    assert is_steady([3.0, 1.0] + [0.5] * 6)
    assert is_steady([0.5] * 3 + [0.7] * 3)  # slower is no reason to go on warming up
