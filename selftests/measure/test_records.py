"""From raw rounds to numbers with units."""

import dataclasses
import math

import numpy
import pytest
from scipy.signal import lfilter
from scipy.stats import quantile_test

from harness.measure.clock import record_of
from harness.measure.latency import Latency
from harness.measure.percentiles import interval, interval_rounds, least_rounds, percentile, percentiles_ms
from harness.measure.throughput import Throughput


def test_a_bound_needs_the_queries_that_loadgen_asks_for():
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
    found = percentiles_ms([0.001] * 35)
    assert found["p90_ms"] is found["p90_low_ms"] is found["p90_high_ms"] is None
    assert found["p90_missing_rounds"] == 1
    assert found["p50_ms"] == 1.0
    found = percentiles_ms([0.001] * 36)
    assert found["p90_ms"] == found["p90_low_ms"] == found["p90_high_ms"] == 1.0
    assert found["p90_missing_rounds"] == 0


@pytest.mark.parametrize(("percent", "least"), [(50, 6), (90, 36), (99, 368)])
def test_a_percentile_is_given_once_both_ends_of_its_interval_exist(percent, least):
    """scipy, which is asked directly here, gives no number for an end that the rounds do not have."""

    def ends(rounds):
        return quantile_test(list(range(rounds)), p=percent / 100).confidence_interval(0.95)

    assert interval_rounds(percent) == least
    assert any(math.isnan(end) for end in ends(least - 1))
    assert not any(math.isnan(end) for end in ends(least))
    assert interval([1.0] * (least - 1), percent) is None


def test_an_interval_holds_the_percentile_as_often_as_it_says():
    """Of 500 samples of 400 independent rounds each, with a fixed seed: 95%, less the chance of 500."""
    generator = numpy.random.default_rng(18)
    samples = generator.exponential(size=(500, 400))
    for percent, true in ((50, math.log(2)), (90, math.log(10)), (99, math.log(100))):
        ends = [interval(list(sample), percent) for sample in samples]
        held = sum(low <= true <= high for low, high in ends) / len(ends)
        assert held >= 0.93, percent
        point = sum(percentile(list(sample), percent) >= true for sample in samples) / len(samples)
        assert point < 0.7, "the point estimate alone bounds nothing"


def test_an_interval_holds_the_percentile_of_rounds_that_resemble_each_other():
    """Rounds of a machine whose speed drifts: each keeps nine tenths of the one before it. Of 200 runs, fixed seed."""
    generator = numpy.random.default_rng(18)
    samples = lfilter([1], [1, -0.9], generator.standard_normal((200, 1500)))[:, 500:]
    blind = [quantile_test(sample, p=0.5).confidence_interval(0.95) for sample in samples]
    assert sum(low <= 0 <= high for low, high in blind) / len(blind) < 0.6, "taken for independent they say too much"
    ends = [interval(list(sample), 50) for sample in samples]
    assert sum(low <= 0 <= high for low, high in ends) / len(ends) >= 0.9


def test_a_percentile_lies_within_its_interval():
    rounds_s = [i / 1000 for i in range(1, 1001)]
    found = percentiles_ms(rounds_s)
    for percent in (50, 90, 99):
        assert found[f"p{percent}_low_ms"] < found[f"p{percent}_ms"] < found[f"p{percent}_high_ms"]


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
    throughput = Throughput.of([1.0, 3.0] * 3, [10, 10] * 3, batch_size=4)
    assert throughput.images_per_second == 80 / 4.0  # the mean of the two rates would be 26.7
    assert (throughput.images, throughput.batches, throughput.windows) == (240, 60, 6)


def test_a_throughput_of_few_windows_is_no_number_but_says_what_is_missing():
    few = Throughput.of([1.0] * 4, [10] * 4, batch_size=4)
    assert few.images_per_second is few.images_per_second_low is few.images_per_second_high is None
    assert few.missing_windows == 1
    enough = Throughput.of([1.0] * 5, [10] * 5, batch_size=4)
    assert enough.images_per_second_low == enough.images_per_second == enough.images_per_second_high == 40
    assert enough.missing_windows == 0


def test_the_interval_of_a_throughput_holds_the_rate_as_often_as_it_says():
    """2,000 samples of five windows of different length, with a fixed seed."""
    generator = numpy.random.default_rng(18)
    held = 0
    for _ in range(2000):
        batches = [40, 40, 41, 38, 20]
        windows_s = [count * 0.01 * generator.normal(1, 0.05) for count in batches]
        found = Throughput.of(windows_s, batches, batch_size=1)
        held += found.images_per_second_low <= 100 <= found.images_per_second_high
    assert 0.93 <= held / 2000 <= 0.98


def test_a_throughput_that_drifts_has_a_slope():
    drifting = Throughput.of([1.0, 1.0, 1.5, 2.0, 2.0], [10] * 5, batch_size=1)
    assert drifting.slope_pct == pytest.approx(100)
    assert Throughput.of([1.0, 2.0, 1.0], [10, 20, 10], batch_size=1).slope_pct == 0, "a longer window is no drift"


def test_a_record_names_its_kind():
    assert record_of(Latency.of([0.1]))["measurement"] == "latency"
    assert record_of(Throughput.of([1.0], [1], 1))["measurement"] == "throughput"
