"""What disturbed the numbers of a row stands at the row."""

import pytest

from commands.best.table import render_best
from fixtures.summary import render
from harness.report.choice import judge
from harness.report.record_rows import rows_of
from harness.report.remarks import MOST_SLOPE_PCT, MOST_WAIT_PCT, remarks

RECORD = {
    **{"case": "m-cpu-fp32-bs1-eager", "model": "m", "device": "cpu", "precision": "fp32", "batch": 1},
    **{
        "engine": "eager",
        "streams": 1,
        "replicas": 1,
        "settings": "",
        "evidence": {"engine": "eager", "dtype_share_pct": {"fp32": 100.0}},
    },
    **{"peak_memory_mib": 1.0, "compile_s": 0.0, "identity": {}, "warmup_steady": True},
    **{"cpu_pressure_pct": 3.0, "runqueue_wait_pct": 1.0, "slope_pct": 0.5},
}
NUMBERS = {
    "latency": {f"p{percent}_ms": 10.0 for percent in (50, 90, 99)},
    "throughput": {"images_per_second": 100.0},
    "streams": {"images_per_second": 100.0, **{f"p{percent}_ms": 10.0 for percent in (50, 90, 99)}},
}


def row(kind="latency", **changes):
    (found,) = rows_of([{**RECORD, **NUMBERS[kind], "measurement": kind, **changes}])
    return found


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize(
    ("changes", "mark", "words"),
    [
        ({"runqueue_wait_pct": MOST_WAIT_PCT + 1}, "machine shared", "for 21% of its time waited for a core"),
        ({"runqueue_wait_pct": None, "cpu_pressure_pct": 50.0}, "machine shared", "for 50% of its time"),
        ({"warmup_steady": False}, "not warm", "before its rounds were steady"),
        ({"slope_pct": MOST_SLOPE_PCT + 2}, "slope +12%", "got 12% slower while it was timed"),
        ({"slope_pct": -MOST_SLOPE_PCT - 2}, "slope -12%", "got 12% faster while it was timed"),
    ],
)
def test_what_disturbed_a_row_stands_in_both_tables_and_in_a_sentence(kind, changes, mark, words):
    found = row(kind, **changes)
    assert list(remarks(found)) == [mark]
    assert words in remarks(found)[mark]
    assert mark in render([found], is_colour=False)
    if kind == "latency":
        assert mark in " ".join(render_best([[found]], {found["case"]: judge(found, [found])}, False).split())


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"runqueue_wait_pct": MOST_WAIT_PCT, "slope_pct": MOST_SLOPE_PCT},
        {"cpu_pressure_pct": 90.0},  # others wait, and this process does not
        {"cpu_pressure_pct": None, "runqueue_wait_pct": None, "slope_pct": None},
        {"untimed_rounds": 3},
    ],
)
def test_a_row_that_nothing_disturbed_has_no_remark(kind, changes):
    found = row(kind, **changes)
    assert remarks(found) == {}
    assert "remarks" not in render([found], is_colour=False)


def test_a_profiler_that_stays_is_told_where_a_gpu_waits_for_launches():
    def found(idle_pct, **conditions):
        evidence = {**RECORD["evidence"], "notes": {"conditions": conditions}}
        return remarks(row(evidence=evidence, bounds={"idle_pct": idle_pct}))

    assert "for 44% of a step" in found(44.0, tracing_detaches=False)["profiler attached"]
    assert found(5.0, tracing_detaches=False) == {}
    assert found(44.0, tracing_detaches=True) == {}
    assert found(44.0) == {}  # a device whose profiler costs a launch nothing, or a record of an earlier version


def test_other_processes_on_the_gpu_are_told():
    def found(kind, count, **changes):
        metrics = {"gpu0 processes": {"max": count}, "gpu1 processes": {"max": 9}}
        return remarks(row(kind, telemetry={"metrics": metrics, "energy": {"devices": {"gpu0": "GPU-1"}}}, **changes))

    assert "1 of them" in found("latency", 2.0)["GPU shared"]
    assert found("latency", 1.0) == {}
    assert found("streams", 3.0, streams=2) == {}
    assert "2 of them" in found("streams", 5.0, streams=2)["GPU shared"]
    assert found("streams", 2.0, replicas=4) == {}
    assert "1 of them" in found("streams", 3.0, replicas=4)["GPU shared"]


def test_a_stream_that_began_cold_is_told():
    assert "cold stream" in remarks(row("streams", untimed_rounds=0))


def test_a_measurement_whose_own_threads_outnumber_the_cores_tells_nothing_of_others():
    (found,) = rows_of([{**RECORD, "measurement": "end_to_end", "runqueue_wait_pct": 60.0}])
    assert remarks(found) == {}


def test_a_record_of_an_earlier_version_has_no_remark():
    (found,) = rows_of([{**NUMBERS["latency"], "measurement": "latency", "case": "c", "model": "m", "batch": 1}])
    assert remarks(found) == {}


def test_what_serving_adds_on_a_machine_that_others_use_is_told():
    record = {**RECORD, "measurement": "overhead", "runqueue_wait_pct": 41.0}
    (found,) = rows_of([record])
    assert "machine shared: overhead for 41% of its time waited for a core" in remarks(found)["machine shared"]
    assert remarks(rows_of([{**record, "runqueue_wait_pct": 2.0}])[0]) == {}
