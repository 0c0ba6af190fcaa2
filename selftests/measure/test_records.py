"""From raw rounds to numbers with units."""

import dataclasses
import math

import pytest

from harness.measure.clock import record_of
from harness.measure.latency import Latency
from harness.measure.percentiles import least_rounds, percentile, percentiles_ms
from harness.measure.throughput import Throughput


def test_percentiles_need_the_rounds_that_loadgen_asks_for():
    assert least_rounds(90) == 64
    assert least_rounds(99) == 662
    assert least_rounds(99.9) == 6636


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_one_round_fewer_is_not_enough(percent):
    n, p = least_rounds(percent), percent / 100

    def chance(rounds):
        return sum(math.comb(rounds, k) * (1 - p) ** k * p ** (rounds - k) for k in (0, 1))

    assert chance(n) <= 0.01 < chance(n - 1)


def test_an_unsupported_percentile_is_no_number_but_says_what_is_missing():
    found = percentiles_ms([0.001] * 63)
    assert found["p90_ms"] is None
    assert found["p90_missing_rounds"] == 1
    assert found["p50_ms"] == 1.0
    assert percentiles_ms([0.001] * 64)["p90_ms"] == 1.0


def test_a_percentile_is_a_round_that_happened():
    rounds_s = [i / 1000 for i in range(1, 101)]
    assert percentile(rounds_s, 90) == 0.090
    assert percentile(rounds_s, 50) == 0.050
    assert percentile(list(reversed(rounds_s)), 99) == 0.099
    assert percentile([3.0], 99) == 3.0


def test_latency_is_milliseconds_converted_once():
    latency = Latency.of([0.010] * 99 + [0.020])
    assert latency.p50_ms == pytest.approx(10.0)
    assert latency.max_ms == pytest.approx(20.0)
    assert latency.mean_ms == pytest.approx(10.1)
    assert latency.wall_s == pytest.approx(1.01)
    assert latency.rounds == 100


def test_percentile_keys_are_latency_fields():
    assert set(percentiles_ms([0.1])) <= {field.name for field in dataclasses.fields(Latency)}


def test_throughput_is_images_over_wall_time_not_a_mean_of_rates():
    throughput = Throughput.of([1.0, 3.0], [10, 10], batch_size=4)
    assert throughput.images_per_second == 80 / 4.0  # the mean of the two rates would be 26.7
    assert (throughput.images, throughput.batches, throughput.windows) == (80, 20, 2)


def test_a_record_names_its_kind():
    assert record_of(Latency.of([0.1]))["measurement"] == "latency"
    assert record_of(Throughput.of([1.0], [1], 1))["measurement"] == "throughput"
