"""Ways in turns: the order favours none, and a difference is told only where the pairs show one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from harness.cases import Duration
from harness.triton import readings
from harness.triton.overhead import IN_PROCESS, Overhead, hops_of, wants_turn
from harness.triton.readings import statistics_of_next
from harness.triton.turns import ADDS, CANNOT_TELL, MOST_TURNS, SAVES, balanced_orders, paired_difference
from selftests.triton.test_counting import NOTHING

NOISE = np.random.default_rng(0)


@pytest.mark.parametrize("ways", [2, 3, 4, 5])
def test_each_way_has_each_place_and_each_neighbour_equally_often(ways):
    """A rotated list has the first, and not the second: gRPC would always come right after in process."""
    orders = balanced_orders(ways)
    assert all(sorted(order) == list(range(ways)) for order in orders)
    places = Counter((way, place) for order in orders for place, way in enumerate(order))
    neighbours = Counter(pair for order in orders for pair in pairwise(order))
    assert len(places) == ways * ways and len(set(places.values())) == 1
    assert len(neighbours) == ways * (ways - 1) and len(set(neighbours.values())) == 1


def test_a_difference_is_that_of_pairs_and_not_of_medians():
    """A machine that slows down within the run slows both: each turn adds 1 ms, and the medians differ by 1 as well."""
    base_s = np.linspace(0.010, 0.100, 41)
    found = paired_difference(base_s + 0.001, base_s)
    assert found.median_ms == pytest.approx(1.0)
    assert found.low_ms == pytest.approx(1.0) and found.high_ms == pytest.approx(1.0)
    assert found.verdict == ADDS and found.is_settled
    assert paired_difference(base_s, base_s + 0.001).verdict == SAVES
    assert paired_difference([0.001, 0.020, 0.011], [0.0, 0.0, 0.010]).median_ms == pytest.approx(1.0), "medians: 11 ms"


def test_the_interval_holds_the_median_in_95_of_100_runs():
    held = 0
    for _ in range(1000):
        times_s = 0.001 + 0.002 * NOISE.standard_exponential(60)
        found = paired_difference(times_s, np.zeros(60))
        held += found.low_ms <= 1e3 * (0.001 + 0.002 * np.log(2)) <= found.high_ms
    assert 930 <= held <= 990


def test_a_difference_smaller_than_its_interval_cannot_be_told():
    noise_s = NOISE.normal(0.0, 0.010, 100)
    assert paired_difference(0.020 + noise_s, np.full(100, 0.0199)).verdict == CANNOT_TELL
    assert paired_difference([0.02] * 5, [0.01] * 5).verdict == CANNOT_TELL, "five turns have no interval"
    assert paired_difference([0.02] * 6, [0.01] * 6).verdict == ADDS


def turns_taken(duration, difference_of, second_s=0.01):
    """How many turns are taken, of four ways, where the clock goes on by so much each turn."""
    times_s = {way: [] for way in (IN_PROCESS, "grpc", "http", "shared_memory")}
    done = 0
    while wants_turn(duration, done, done * second_s, times_s, 4):
        for way, found in times_s.items():
            found.append(0.010 if way == IN_PROCESS else 0.010 + difference_of(done))
        done += 1
    return done


def steady(turn):
    return 0.002


def scattered(turn):
    return 0.002 + 0.005 * (turn % 2)


@pytest.mark.parametrize(
    ("duration", "difference_of", "turns"),
    [
        (Duration(0.0, None, 11), steady, 12),  # settled, at the end of a rotation
        (Duration(0.0, None, 11), scattered, MOST_TURNS),
        (Duration(0.5, None, 11), steady, 52),
        (Duration(3.0, None, 11), scattered, 300),  # a time that was asked for goes before the most turns
        (Duration(0.0, 0.3, 11), scattered, 30),
        (Duration(0.0, None, 1, batches=7), scattered, 7),
        (Duration(0.0, 0.03, 1, batches=7), scattered, 3),
    ],
)
def test_turns_go_on_until_the_difference_is_known(duration, difference_of, turns):
    assert turns_taken(duration, difference_of) == turns


def test_each_number_of_a_way_is_its_own():
    """Fields are filled by name: each way gets its own, and a way that was not measured gets none."""
    base_s = [0.010] * 12
    found = Overhead.of({IN_PROCESS: base_s, "grpc": [0.012] * 12, "http": [0.013] * 12})
    assert (found.rounds, found.in_process_p50_ms, found.in_process_p10_ms) == (12, 10.0, 10.0)
    assert (found.grpc_p50_ms, found.grpc_overhead_ms, found.grpc_overhead_p10_ms) == pytest.approx((12.0, 2.0, 2.0))
    assert (found.http_p50_ms, found.http_overhead_ms, found.http_overhead_high_ms) == pytest.approx((13.0, 3.0, 3.0))
    assert found.grpc_verdict == found.http_verdict == ADDS
    assert found.shared_memory_p50_ms is None and found.shared_memory_verdict is None
    assert Overhead.of({IN_PROCESS: base_s[:3], "grpc": base_s[:3]}).grpc_overhead_ms is None


def test_the_wait_for_a_core_is_that_of_its_way_and_none_where_one_request_of_it_is_not_known():
    base_s = [0.010] * 12
    times_s = {IN_PROCESS: base_s, "grpc": [0.012] * 12, "http": [0.013] * 12}
    waits_ms = {IN_PROCESS: [0.5] * 12, "grpc": [1.0, 3.0] * 6, "http": [1.0] * 11 + [None]}
    found = Overhead.of(times_s, waits_ms)
    assert (found.in_process_runqueue_ms, found.grpc_runqueue_ms) == pytest.approx((0.5, 2.0))
    assert found.http_runqueue_ms is None and found.shared_memory_runqueue_ms is None


def hops(transport_s, compute_s, queue_s=0.0001):
    counted = replace(NOTHING, requests=1, queue_s=queue_s, compute_s=compute_s, total_s=queue_s + compute_s)
    return hops_of(transport_s + counted.total_s, counted)


def test_the_hop_that_adds_most_is_named_with_what_it_adds():
    """Running the model counts by what it takes longer than in process, or it would be named always."""
    base_s = [0.010] * 12
    times_s = {IN_PROCESS: base_s, "grpc": [0.012] * 12, "http": [0.016] * 12}
    told = {"grpc": [hops(0.0014, 0.0105)] * 12, "http": [hops(0.001, 0.0149)] * 12}
    found = Overhead.of(times_s, hops_s=told)
    assert (found.grpc_costliest, found.grpc_costliest_ms) == ("transport", pytest.approx(1.4))
    assert (found.grpc_compute_ms, found.grpc_queue_ms) == pytest.approx((10.5, 0.1))
    assert (found.http_costliest, found.http_costliest_ms) == ("compute", pytest.approx(4.9))
    assert found.shared_memory_costliest is None
    told["grpc"][3] = None
    assert Overhead.of(times_s, hops_s=told).grpc_costliest is None, "of one request it is not known"


def test_a_request_that_is_not_counted_alone_has_no_hops(monkeypatch):
    """A server counts a request after it has answered it, and another client's requests must not be taken for ours."""
    counts = iter([0, 0, 1])
    monkeypatch.setattr(readings, "statistics", lambda server, name: replace(NOTHING, requests=next(counts)))
    assert statistics_of_next(None, "net", NOTHING, clock=lambda: 0.0).requests == 1
    monkeypatch.setattr(readings, "statistics", lambda server, name: replace(NOTHING, requests=2))
    assert statistics_of_next(None, "net", NOTHING, clock=lambda: 0.0) is None
    times = iter([0.0, 0.5, 2.0])
    monkeypatch.setattr(readings, "statistics", lambda server, name: NOTHING)
    assert statistics_of_next(None, "net", NOTHING, clock=lambda: next(times)) is None
