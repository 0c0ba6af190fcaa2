"""How many images a second, and how long each batch takes, with several processes at once."""

import pytest

from harness.measure.streams import measure_streams

pytestmark = pytest.mark.data_mode("synthetic")


def test_streams(case, streaming, duration, timed, watch, keep, stream_facts):
    """All images over the wall time of one common window; latency over all requests of all streams."""
    keep(measure_streams(case, streaming, duration, timed, watch), stream_facts)
