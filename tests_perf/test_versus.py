"""Which of two sides is faster, and by how much: the case as selected, and the second side of --against."""

import pytest

from harness.measure.versus import measure_versus

pytestmark = pytest.mark.data_mode("synthetic")


def test_versus(case, sides, versus_terms, timed, versus_phase, keep, versus_facts):
    """Two processes run blocks of batches in turns, one still while the other is timed, and both are started anew."""
    measured = measure_versus(sides.ready, sides.renew, versus_terms, case.images, timed, versus_phase)
    keep(measured, versus_facts)
    measured.require_both()
