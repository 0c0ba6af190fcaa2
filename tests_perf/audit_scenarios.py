"""MLPerf's compliance tests on a case, run by name: `pytest tests_perf/audit_scenarios.py -k MODEL`."""

import pytest

from harness.audits import audit_answers, audit_same


@pytest.mark.parametrize("scenario", ["single_stream", "offline"])
def test_answers_of_a_performance_run_are_those_of_the_accuracy_run(scenario, prepared, samples, terms, phase):
    """After TEST01."""
    prepared.require_proof()
    audit = audit_answers(scenario, prepared.runner, prepared.case.batch, samples, terms, phase)
    assert audit.compared > 0, "LoadGen logged no answer"
    assert not audit.different, f"{len(audit.different)} of {audit.compared} differ: {audit.different}"


@pytest.mark.parametrize("scenario", ["single_stream"])
def test_the_same_sample_is_not_answered_faster(scenario, prepared, samples, terms, phase):
    """After TEST04."""
    prepared.require_proof()
    audit = audit_same(scenario, prepared.runner, prepared.case.batch, samples, terms, phase)
    assert audit.faster_pct <= audit.allowed_pct, f"{audit}: {audit.faster_pct:.1f}% faster: are answers kept?"
