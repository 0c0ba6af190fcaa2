"""What bounds a row: no share without a peak that is proven to be of the same device, threads and format."""

from dataclasses import replace

import pytest

from fixtures.bounds_table import render_bounds, render_layers
from harness.engines import Evidence
from harness.engines.evidence import LayerTime
from harness.measure.bounds import batch_seconds, bounds_of, costliest_layers
from harness.measure.peaks.kept import CopyRate, Peak, Peaks
from harness.report.record_rows import rows_of
from harness.report.remarks import remarks
from models.work import LayerWork, Uncounted, Work

# One billion operations in layers that need 1 ms at the peak, and 1 MB that needs 0.1 ms of copying.
WORK = Work((LayerWork("convolution", 10**9, 250_000),), 100_000)
LAYERS = (
    LayerTime("conv1", "Convolution", 1500.0, True),
    LayerTime("relu1", "ReLU", 100.0, False),
    LayerTime("pool", "Pooling", 200.0, False),
)
EVIDENCE = Evidence(
    engine="openvino",
    dtype_share_pct={"fp32": 100.0},
    matrix_ops=4,
    clock="operator",
    parameter_devices={"cpu": 1},
    parameter_dtypes={"float32": 1},
    short_formats={},
    fpmath_mode=None,
    memory_format="any",
    threads={"intra_op": 1, "asked": 1},
    layers=LAYERS,
    busy_us=1800.0,
)
PEAK = Peak("fp32", 1.0, 0.95, 4.0, 9, 12, True, "openvino", "conv3x3", EVIDENCE.as_dict())
PEAKS = Peaks({"device": "cpu"}, {"fp32": PEAK}, (CopyRate(16, 10.0, 9.0, 9), CopyRate(256, 5.0, 4.0, 9)))


def bounds(work=WORK, evidence=EVIDENCE, precision="fp32", batch_s=0.002, model_s=None, peaks=PEAKS, waited_pct=0.0):
    return bounds_of(work, evidence, precision, batch_s, model_s, peaks, waited_pct)


def test_a_row_has_its_rate_its_share_and_its_intensity():
    found = bounds()
    assert found.tflops == pytest.approx(0.5)
    assert found.share_of_peak_pct == pytest.approx(50.0)
    assert found.intensity == pytest.approx(1000.0)
    assert found.bound == "compute"
    assert found.details["flops"] == 10**9 and found.details["bytes"] == 10**6
    assert found.details["roof_pct"] == pytest.approx(50.0)
    assert found.details["peak"]["dtype_share_pct"] == {"fp32": 100.0}


def test_half_of_the_operations_is_half_of_the_share():
    """The sabotage of a counter that takes multiply-adds for operations: every number that is printed halves."""
    halved = Work((LayerWork("convolution", 10**9 // 2, 250_000),), 100_000)
    assert bounds(halved).share_of_peak_pct == pytest.approx(bounds().share_of_peak_pct / 2)


def test_without_peaks_there_is_no_share_and_the_way_out():
    found = bounds(peaks=None)
    assert (found.share_of_peak_pct, found.bound) == (None, None)
    assert found.tflops == pytest.approx(0.5) and found.intensity == pytest.approx(1000.0)
    assert "visionmark peaks" in found.details["why"]


def test_the_peak_of_another_format_is_no_peak_of_this_one():
    found = bounds(precision="bf16")
    assert found.share_of_peak_pct is None and "no peak of bf16" in found.details["why"]


@pytest.mark.parametrize(
    "lie",
    [
        {"evidence": {**EVIDENCE.as_dict(), "dtype_share_pct": {"bf16": 100.0}}},
        {"evidence": {**EVIDENCE.as_dict(), "matrix_ops": 0}},
        {"evidence": {}},
        {"format": "bf16", "evidence": {**EVIDENCE.as_dict(), "dtype_share_pct": {"bf16": 100.0}}},
        {"runqueue_wait_pct": 35.0, "cpu_pressure_pct": 90.0},
    ],
    ids=["computed in bf16", "computed nothing", "no evidence", "named bf16", "shared machine"],
)
def test_a_peak_of_another_format_than_it_says_or_of_a_shared_machine_counts_for_nothing(lie):
    found = bounds(peaks=replace(PEAKS, peaks={"fp32": replace(PEAK, **lie)}))
    assert (found.share_of_peak_pct, found.bound) == (None, None)
    assert "fp32" in found.details["why"] and "peaks --again" in found.details["why"]


def test_others_on_other_cores_deny_no_peak():
    """The pressure of the whole machine counts only where the kernel does not tell what this process waited."""
    assert replace(PEAK, runqueue_wait_pct=2.0, cpu_pressure_pct=90.0).denial() is None
    assert replace(PEAK, runqueue_wait_pct=None, cpu_pressure_pct=90.0).denial() is not None
    assert replace(PEAK, runqueue_wait_pct=None, cpu_pressure_pct=None).denial() is None


def test_a_row_above_the_peak_has_no_share_and_is_told():
    found = bounds(batch_s=0.0005)
    assert found.share_of_peak_pct is None
    assert found.details["over_peak_pct"] == pytest.approx(200.0)
    record = {**ROW, **found.record()}
    (row,) = rows_of([record])
    assert "latency reached 200% of the peak" in remarks(row)["over the peak"]
    assert "over" in render_bounds([record])[0]


def test_bytes_bound_where_the_copies_take_longer():
    found = bounds(Work((LayerWork("convolution", 10**6, 2_500_000),), 100_000))
    assert found.bound == "memory" and "those that bytes limit 1 ms" in found.details["why"]


def test_more_memory_in_use_is_copied_at_the_rate_of_more_memory():
    assert PEAKS.copy_of(2**20).footprint_mib == 16
    assert PEAKS.copy_of(17 * 2**20).footprint_mib == 256
    assert PEAKS.copy_of(2**40).footprint_mib == 256
    assert replace(PEAKS, copies=()).copy_of(1) is None
    disturbed = (replace(PEAKS.copies[0], runqueue_wait_pct=60.0), PEAKS.copies[1])
    assert replace(PEAKS, copies=disturbed).copy_of(2**20).footprint_mib == 256
    assert PEAKS.has_copies and not replace(PEAKS, copies=disturbed).has_copies


def test_a_step_in_which_mostly_nothing_runs_is_bound_by_launching():
    found = bounds(batch_s=0.004)
    assert found.bound == "launch" and "55% of a step" in found.details["why"]


def test_a_step_that_waits_for_a_core_is_not_bound_by_launching():
    """The sabotage: others have the machine, so that a batch takes twice as long as what the profile shows."""
    found = bounds(batch_s=0.004, waited_pct=60.0)
    assert found.bound is None and "waited for a core for 60%" in found.details["why"]
    assert bounds(batch_s=0.004, waited_pct=10.0).bound == "launch"
    assert bounds(waited_pct=60.0).bound == "compute"


def test_what_contradicts_the_count_is_named():
    layers = (*LAYERS, LayerTime("norm", "BatchNorm", 1800.0, False), LayerTime("norm2", "BatchNorm", 900.0, False))
    found = bounds(evidence=replace(EVIDENCE, layers=layers, busy_us=4500.0), batch_s=0.0046)
    assert found.bound == "memory"
    assert "65% of a step is outside" in found.details["why"]
    assert "most of it in BatchNorm, and 2% of it nothing ran" in found.details["why"]
    # a third of the step is outside, and less than the two fifths in which nothing ran
    assert bounds(evidence=replace(EVIDENCE, layers=layers, busy_us=4500.0), batch_s=0.0085).bound == "launch"
    long = "void at::native::elementwise_kernel<128, " + 30 * "at::native::functor<" + 30 * ">"
    layers = (*LAYERS, LayerTime(long, long, 2700.0, False))
    found = bounds(evidence=replace(EVIDENCE, layers=layers, busy_us=4500.0), batch_s=0.0046)
    assert found.details["outside_most"] == long
    assert len(found.details["why"]) < 160


def test_what_takes_twice_as_long_as_the_model_is_bound_by_copying():
    assert bounds(batch_s=0.005, model_s=0.002).bound == "copy"
    assert bounds(batch_s=0.0039, model_s=0.002).bound == "compute"


def test_an_engine_without_times_is_judged_by_its_count_alone():
    found = bounds(evidence=replace(EVIDENCE, layers=(), busy_us=None))
    assert found.bound == "compute" and "idle_pct" not in found.details


def test_what_cannot_be_counted_or_timed_has_a_reason():
    assert bounds(Uncounted("it looks at values")).record() == {
        **dict.fromkeys(("tflops", "share_of_peak_pct", "intensity", "bound")),
        "bounds": {"why": "its operations cannot be counted: it looks at values"},
    }
    assert bounds(batch_s=None).tflops is None and "too few rounds" in bounds(batch_s=None).details["why"]


@pytest.mark.parametrize(
    ("kind", "fields", "seconds"),
    [
        ("latency", {"p50_ms": 20.0}, 0.02),
        ("latency", {"p50_ms": None}, None),
        ("generated", {"p50_ms": 20.0}, 0.02),
        ("throughput", {"images_per_second": 100.0}, 0.08),
        ("throughput", {"images_per_second": None}, None),
        ("end_to_end", {"images_per_second": 100.0}, 0.08),
        ("parity", {}, None),
    ],
)
def test_the_time_of_a_batch_is_that_of_the_rows_own_number(kind, fields, seconds):
    assert batch_seconds(kind, fields, 8) == seconds


ROW = {
    **{"case": "m-cpu-fp32-bs1-openvino", "measurement": "latency", "model": "m", "batch": 1, "device": "cpu"},
    **{"warmup_steady": True},
}


def test_the_summary_shows_the_rows_that_have_a_share_and_no_others():
    (shown,) = render_bounds([{**ROW, **bounds().record()}, {**ROW, "case": "other", **bounds(peaks=None).record()}])
    assert "m-cpu-fp32-bs1-openvino" in shown and "50.0%" in shown and "other" not in shown
    assert "peak fp32: 1 Tflop/s by openvino, conv3x3, 9 rounds within 4%" in shown
    assert render_bounds([ROW]) == []


def test_the_costliest_layers_are_told_once_a_case():
    many = tuple(LayerTime(f"layer{number}", "Convolution", float(number), True) for number in range(1, 13))
    found = costliest_layers(replace(EVIDENCE, layers=many, busy_us=78.0))
    assert [layer["name"] for layer in found] == [f"layer{number}" for number in range(12, 2, -1)]
    assert found[0]["pct"] == pytest.approx(100 * 12 / 78)
    tables = render_layers([{**ROW, "layers": found}, {**ROW, "measurement": "throughput", "layers": found}])
    assert len(tables) == 1 and "layer12" in tables[0] and "layer2 " not in tables[0]


def test_the_record_of_evidence_has_no_hundreds_of_layers():
    assert "layers" not in EVIDENCE.as_dict() and "busy_us" not in EVIDENCE.as_dict()


def test_a_profile_that_shows_no_product_says_nothing_of_where_the_time_went():
    """The sabotage: compiled code that the profiler does not see looks as if nothing ran."""
    layers = (LayerTime("view", "aten::view", 4.0, False),)
    found = bounds(evidence=replace(EVIDENCE, layers=layers, busy_us=4.0))
    assert found.bound == "compute" and "idle_pct" not in found.details
    assert bounds(evidence=replace(EVIDENCE, layers=layers, busy_us=4.0), peaks=None).bound is None
