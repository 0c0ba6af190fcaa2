"""How long a batch takes from host memory to its answer, and how many images a second that makes."""

import pytest

from harness.measure.generated import measure_generated

pytestmark = pytest.mark.data_mode("generated")


def test_generated(prepared, duration, timed, record):
    """One batch from before its copy to the device until its answer is on the host; the images are generated."""
    prepared.require_proof()
    record(measure_generated(prepared, duration, timed))
