"""What clients get from a server: how many images a second, and how long a request takes."""

import pytest

from harness.triton.served import measure_served

pytestmark = pytest.mark.loads


def test_single_model(served, traffic, load_duration, timed, record_served):
    """N clients, each sends its next image when its last is answered; every answer is the model's own."""
    record_served(measure_served(served, traffic, load_duration, timed))
