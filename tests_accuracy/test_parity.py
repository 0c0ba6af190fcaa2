"""Are the answers those of the same weights in fp32 on the CPU?"""

from harness.measure.parity import measure_parity


def test_parity(prepared, reference_outputs, timed, record):
    """Logits of different images, as signal to quantisation noise, and their first class."""
    prepared.require_proof()
    parity = measure_parity(prepared, reference_outputs, timed)
    assert parity.sqnr_db >= parity.sqnr_floor_db, f"{prepared.case}: logits too far from fp32"
    assert parity.top1_agreement_pct >= parity.top1_agreement_floor_pct, f"{prepared.case}: other classes than fp32"
    assert parity.gain is None or abs(parity.gain - 1) <= parity.gain_tolerance, f"{prepared.case}: a head is scaled"
    record(parity)
