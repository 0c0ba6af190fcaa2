"""How long one batch takes."""

import pytest

from harness.measure.latency import measure_latency

pytestmark = pytest.mark.data_mode("synthetic")


def test_latency(prepared, duration, timed, record):
    """One batch from before its submit until the device is done with it, input on the device."""
    prepared.require_proof()
    record(measure_latency(prepared, duration, timed))
