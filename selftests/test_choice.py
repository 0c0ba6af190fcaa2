"""Which row is chosen, and which never is: pure functions over records."""

import re

import pytest

from harness.choice import error_of, fastest, judge, pareto_front
from harness.kept_choice import differences
from harness.picture import draw
from harness.rows import rows_of

CASE = {"model": "m", "device": "cpu", "batch": 1}


def row(engine, precision="fp32", *, speed=10.0, p50=100.0, sqnr=100.0, agreement=100.0, top1=None, **changes):
    """A row as the records give it; `changes` replace parts, None leaves one out."""
    made = {
        **CASE,
        "engine": engine,
        "precision": precision,
        "case": f"m-cpu-{precision}-bs1-{engine}",
        "evidence": {"engine": engine, "dtype_share_pct": {precision: 100.0}},
        "identity": {"weights": "w.pth", "weights_sha256": "a"},
        "throughput": {"images_per_second": speed},
        "latency": {"p50_ms": p50},
        "parity": {
            "sqnr_db": sqnr,
            "sqnr_floor_db": 10.0,
            "top1_agreement_pct": agreement,
            "top1_agreement_floor_pct": 70.0,
        },
        "end_to_end": {"top1_pct": top1, "data": "d", "unique_images": 1000, "labelled_images": 1000},
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def chosen(rows, objective):
    best = fastest(rows, {one["case"]: judge(one, rows) for one in rows}, objective)
    return None if best is None else best["engine"]


def test_latency_and_throughput_are_chosen_apart():
    rows = [row("eager"), row("trace", speed=30.0, p50=90.0), row("compile", speed=20.0, p50=50.0)]
    assert chosen(rows, "throughput") == "trace"
    assert chosen(rows, "latency") == "compile"


FAST = {"speed": 1000.0, "p50": 1.0}


@pytest.mark.parametrize(
    ("fast", "words"),
    [
        (row("openvino", **FAST, evidence={}), "no evidence"),
        (row("openvino", **FAST, evidence=None), "no evidence"),
        (row("openvino", **FAST, evidence={"engine": "eager", "dtype_share_pct": {"fp32": 100.0}}), "is of eager"),
        (row("openvino", **FAST, parity=None), "no parity"),
        (row("openvino", "bf16", **FAST, sqnr=9.9), "9.9 dB from fp32, the floor is 10"),
        (row("openvino", "bf16", **FAST, sqnr=float("nan")), "nan dB"),
        (row("openvino", "bf16", **FAST, agreement=69.0), "69% of classes agree"),
    ],
)
def test_a_row_that_is_not_proven_or_not_right_is_never_chosen_however_fast(fast, words):
    rows = [row("eager"), fast]
    assert words in "; ".join(judge(fast, rows).reasons)
    assert chosen(rows, "latency") == chosen(rows, "throughput") == "eager"


@pytest.mark.parametrize(("top1", "passes"), [(83.0, True), (84.5, True), (82.97, True), (82.95, False), (None, False)])
def test_with_labels_the_margin_is_one_percent_of_fp32s_correct_answers(top1, passes):
    rows = [row("eager", top1=83.8), row("openvino", "int8", **FAST, top1=top1)]
    verdict = judge(rows[1], rows)
    assert verdict.passes == passes, verdict
    assert verdict.basis == "top-1"
    assert chosen(rows, "throughput") == ("openvino" if passes else "eager")


def test_a_loss_is_counted_on_the_same_images_and_weights_or_not_at_all():
    other = {"top1_pct": 83.8, "data": "d", "unique_images": 500, "labelled_images": 500}
    for reference in (
        row("eager", end_to_end=other),
        row("eager", top1=83.8, identity={"weights": "w.pth", "weights_sha256": "b"}),
        row("eager", "bf16", top1=83.8),
        row("eager", top1=83.8, sqnr=5.0),
    ):
        rows = [reference, row("openvino", "int8", **FAST, top1=83.8)]
        assert "no fp32 row on the same images" in "; ".join(judge(rows[1], rows).reasons)
        assert chosen(rows, "latency") != "openvino"


def test_nothing_is_chosen_where_nothing_passes_or_nothing_was_measured():
    assert chosen([row("eager", parity=None)], "latency") is None
    assert chosen([row("eager", latency={"p50_ms": None})], "latency") is None
    assert chosen([row("eager", latency=None)], "latency") is None
    assert chosen([], "latency") is None


def test_records_of_a_case_become_one_row_and_judging_leaves_them_alone():
    whole = row("eager")
    parts = ("throughput", "latency", "parity", "end_to_end")
    base = {key: value for key, value in whole.items() if key not in parts}
    records = [{**base, "measurement": part, **whole[part]} for part in parts]
    (joined,) = rows_of(records)
    assert judge(joined, [joined]) == judge(whole, [whole])
    assert joined["latency"]["p50_ms"] == 100.0


def test_the_pareto_front_holds_what_nothing_beats_in_both():
    points = {"right": (0.0, 10.0), "slow": (0.0, 9.0), "worse": (1.0, 10.0), "fast": (2.0, 50.0), "lost": (3.0, 20.0)}
    assert pareto_front(points) == ["right", "fast"]
    assert pareto_front({}) == []


def test_error_is_what_was_lost_or_less_sqnr():
    rows = [row("eager", top1=83.8), row("openvino", top1=82.0, sqnr=20.0)]
    assert error_of(rows[1], judge(rows[1], rows)) == pytest.approx(1.8)
    rows = [row("eager"), row("openvino", sqnr=20.0)]
    assert error_of(rows[1], judge(rows[1], rows)) == -20.0


def test_the_picture_marks_the_front_the_best_and_what_fails(tmp_path):
    rows = [
        row("eager", top1=83.8),
        row("compile", speed=90.0, top1=83.5),
        row("trace", speed=20.0, top1=83.4),
        row("openvino", "int8", **FAST, top1=60.0),
    ]
    draw(tmp_path / "picture.svg", [rows], {one["case"]: judge(one, rows) for one in rows})
    drawn = (tmp_path / "picture.svg").read_text()
    marks = dict(reversed(mark) for mark in re.findall(r'id="(best|front|row):m-cpu-\w+-bs1-(\w+)"', drawn))
    assert marks == {"eager": "front", "compile": "best", "trace": "row", "openvino": "front"}
    assert 'id="pareto-front"' in drawn
    assert "int8 openvino (fails)" in drawn
    assert "top-1 lost" in drawn


def test_differences_name_what_changed_with_both_values():
    kept = {"machine": "a", "libraries": {"torch": "1", "openvino": "2"}, "variables": {}, "list": (1, 2)}
    assert differences(kept, {**kept, "list": [1, 2]}) == []
    assert differences(kept, {**kept, "machine": "b"}) == ["machine was a, is b"]
    assert differences(kept, {**kept, "libraries": {"torch": "1"}}) == ["libraries openvino was 2, is absent"]
    assert differences(kept, {**kept, "variables": {"X": "1"}}) == ["variables X was absent, is 1"]
