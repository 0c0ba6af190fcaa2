"""How long do requests take that come at random times, and how many a second are answered within a bound?"""

import pytest

from harness.triton.open_loop import find_highest_rate, measure_open_loop

pytestmark = pytest.mark.loads


def test_open_loop(served, rate, load_duration, loadgen_folder, timed, record_served):
    """Poisson arrivals at a rate; a request's time begins when it is scheduled, whether or not others are open."""
    record_served(measure_open_loop(served, rate, load_duration, loadgen_folder, timed))


def test_highest_rate(served, bound, load_duration, loadgen_folder, timed, record_served):
    """The highest rate of Poisson arrivals of which 99% are answered within the bound."""
    record_served(find_highest_rate(served, bound, load_duration.min_s, loadgen_folder, timed))
