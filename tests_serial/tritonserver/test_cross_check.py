"""Does NVIDIA's own perf_analyzer measure the same on the same server and load?"""

import pytest

from harness.triton.cross_check import cross_check, require_no_disagreement


@pytest.mark.one_model
def test_perf_analyzer_does_not_disagree(served, four_clients, perf_analyzer, tmp_path, timed, record_served):
    """Throughput and p50, in turns: not more than 5% apart in every pair; the record says whether they agree."""
    check = cross_check(served, four_clients, perf_analyzer, tmp_path, timed)
    require_no_disagreement(check)
    record_served(check)
