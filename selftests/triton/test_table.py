"""What serving measures of itself is in the printed tables, and nothing is printed that the sample does not support."""

from __future__ import annotations

from dataclasses import asdict

from fixtures.serving.table import render_serving
from fixtures.summary import tables_of
from harness.triton.clients import Traffic
from harness.triton.cross_check import compare
from harness.triton.overhead import HOPS, IN_PROCESS, SERVED_WAYS, Overhead
from harness.triton.perf_analyzer import Opinion
from harness.triton.photographs import Photographs


def record_of(measurement, **more):
    """A record as `keep` makes one of a measurement of serving."""
    beside = {"case": "net-cpu-fp32-bs1-onnxruntime", "evidence": {"engine": "onnxruntime", "backend": "python"}}
    return {**beside, **asdict(measurement), "measurement": measurement.kind, **more}


def words_of(text):
    return " ".join(text.split())


def test_what_serving_adds_is_printed_with_its_interval_and_its_p10():
    """gRPC adds 2 ms in every turn; what HTTP adds scatters by more than it is."""
    base_s = [0.010] * 24
    scattered = [0.010 + (0.020 if turn % 2 else -0.019) for turn in range(24)]
    found = Overhead.of({IN_PROCESS: base_s, "grpc": [0.012] * 24, "http": scattered})
    (text,) = render_serving([record_of(found)], is_colour=False)
    assert "net-cpu-fp32-bs1-onnxruntime in process 10.00 10.00 24" in words_of(text)
    assert "gRPC 12.00 12.00 2.00 2.00 to 2.00 2.00" in words_of(text)
    http = next(line for line in text.splitlines() if "HTTP" in line)
    assert "cannot tell" in http and "-19.00 to 20.00" in http
    assert "shared memory" not in text, "it was not measured"
    assert "waited ms" not in text.splitlines()[0], "nobody told it"


def test_how_long_each_way_waited_for_a_core_is_printed_beside_what_it_adds():
    """The added time may be time in which the cores were somebody else's."""
    times_s = {IN_PROCESS: [0.010] * 24, "grpc": [0.012] * 24, "http": [0.013] * 24}
    waits_ms = {IN_PROCESS: [0.25] * 24, "grpc": [4.5] * 24, "http": [5.5] * 24}
    (text,) = render_serving([record_of(Overhead.of(times_s, waits_ms))], is_colour=False)
    assert "waited ms" in text.splitlines()[0]
    assert "in process 10.00 10.00 0.25 24" in words_of(text)
    assert "2.00 to 2.00 2.00 4.50" in words_of(text)
    assert "3.00 to 3.00 3.00 5.50" in words_of(text)


def test_the_hops_of_each_way_are_printed_with_the_one_that_adds_most():
    """Where the server tells nothing, as one that somebody else runs, there is no such table."""
    times_s = {IN_PROCESS: [0.010] * 24, "grpc": [0.012] * 24, "http": [0.013] * 24}
    told = [{"transport": 0.0015, "queue": 0.0001, "input": 0.0002, "compute": 0.0103, "output": 0.0003}] * 24
    _, text = render_serving([record_of(Overhead.of(times_s, hops_s={"grpc": told}))], is_colour=False)
    assert "gRPC 1.50 0.10 0.20 10.30 0.30 transport 1.50" in words_of(text)
    assert "HTTP" not in text
    assert len(render_serving([record_of(Overhead.of(times_s))], is_colour=False)) == 1


def test_too_few_turns_print_no_number():
    found = Overhead.of({IN_PROCESS: [0.01] * 3, "grpc": [0.02] * 3, "http": [0.02] * 3})
    (text,) = render_serving([record_of(found)], is_colour=False)
    assert "n<11" in text
    assert "10.00" not in text and "gRPC" not in text


def test_the_second_opinion_is_printed_with_its_verdict():
    theirs = [Opinion(rate, 10.0) for rate in (95.0, 100.0, 104.0)]
    check = compare([Opinion(99.0, 10.1)] * 3, theirs, Traffic("grpc", "sync", 4), 1, unmeasured=2)
    (text,) = render_serving([record_of(check)], is_colour=False)
    assert "images/s 99.00 100.00 0.99 0.95 to 1.04 3 + 2 unmeasured agree" in words_of(text)
    assert "p50 ms 10.10 10.00 1.01 1.01 to 1.01" in words_of(text)


def test_nothing_is_cut_off_for_a_long_name():
    """The name of a model with its owner, and traffic at its end."""
    name = "timm:test_efficientnet-cpu-fp32-bs1-onnxruntime-grpc-sync-4"
    check = compare([Opinion(99.0, 10.1)] * 3, [Opinion(100.0, 10.0)] * 3, Traffic("grpc", "sync", 4), 1, unmeasured=2)
    base_s = [0.010] * 24
    waits_ms = {way: [123.5] * 24 for way in (IN_PROCESS, *SERVED_WAYS)}
    hops_s = {way: [dict.fromkeys(HOPS, 0.1023)] * 24 for way in SERVED_WAYS}
    adds = Overhead.of({IN_PROCESS: base_s, **{way: [0.112] * 24 for way in SERVED_WAYS}}, waits_ms, hops_s)
    shown = Photographs(50000, 50000, 77.5, 77.5, 104.2, 51.0)
    for measurement in (check, adds, shown):
        for text in render_serving([record_of(measurement, case=name)], is_colour=False):
            assert "…" not in text and name in text


def test_photographs_are_printed_with_the_accuracies_of_both():
    (text,) = render_serving([record_of(Photographs(40, 40, 77.5, 77.5, 104.2, 51.0))], is_colour=False)
    assert "net-cpu-fp32-bs1-onnxruntime 40 of 40 77.50 77.50 104.2 51.0" in words_of(text)
    (text,) = render_serving([record_of(Photographs(8, 8, None, None, 104.2, 51.0))], is_colour=False)
    assert "8 of 8 104.2 51.0" in words_of(text)


def test_they_are_in_the_summary_and_not_as_an_empty_row_of_the_table_of_cases():
    record = record_of(Photographs(8, 8, None, None, 104.2, 51.0), model="net", batch=1, device="cpu")
    (text,) = tables_of([record], is_colour=False)
    assert "same top-1" in text and "proof" not in text


def test_measurements_of_other_kinds_have_no_table_here():
    assert render_serving([{"measurement": "latency"}, {"measurement": "served"}], is_colour=False) == []
