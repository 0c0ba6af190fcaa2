"""How many images a second."""

import pytest

from harness.measure.throughput import measure_throughput

pytestmark = pytest.mark.data_mode("synthetic")


def test_throughput(prepared, duration, timed, record):
    """Images over wall time of windows of batches, inputs on the device."""
    prepared.require_proof()
    record(measure_throughput(prepared, duration, timed))
