"""How long one batch takes."""

from harness.measure.latency import measure_latency


def test_latency(prepared, duration, timed, record):
    """One batch from before its submit until the device is done with it, input on the device."""
    prepared.require_proof()
    record(measure_latency(prepared, duration, timed))
