"""How the four MLPerf scenarios end, as LoadGen judges them."""

import pytest

from harness.measure.loadgen.bridge import SCENARIOS
from harness.measure.loadgen.scenarios import measure_scenario


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario, prepared, samples, terms, timed, record, phase):
    """Queries from LoadGen, from host memory to the class on the host; the verdict is LoadGen's own."""
    prepared.require_proof()
    measured = measure_scenario(scenario, prepared, samples, terms, timed, phase)
    record(measured)
    assert measured is None or measured.is_accepted(terms.is_mlperf), f"{measured.validity}: {measured.reasons}"
