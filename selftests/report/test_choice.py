"""Which row is chosen, and which never is: pure functions over records."""

import re
from dataclasses import asdict

import pytest

from commands.best.table import render_best
from fixtures.summary import render
from harness.measure.latency import Latency
from harness.measure.throughput import Throughput
from harness.report.choice import error_of, fastest, judge, pareto_front, tied
from harness.report.fbnet_files import results_yaml
from harness.report.kept_choice import differences
from harness.report.pareto_svg import draw
from harness.report.record_rows import disagreement, rows_of

CASE = {"model": "m", "device": "cpu", "batch": 1}


def accuracy(loss, verdict="holds", absolute="not gated", margin=0.84):
    """A record of accuracy; loss in points, "reference" for that of the reference itself."""
    is_reference = loss == "reference"
    top1 = 83.8 - (0 if is_reference else loss)
    paired = {
        "verdict": verdict,
        "loss_points": loss,
        "loss_high_points": loss if is_reference else loss + 0.5,
        "margin_points": margin,
        "needs_images": 1483,
        "images": 1000,
    }
    return {
        "top1": {"pct": top1},
        "top5": {"pct": 96.0},
        "absolute": absolute,
        "paired": None if is_reference else paired,
    }


def row(
    engine,
    precision="fp32",
    *,
    speed=10.0,
    p50=100.0,
    sqnr=100.0,
    agreement=100.0,
    loss=None,
    verdict="holds",
    **changes,
):
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
        "accuracy": None if loss is None else accuracy(loss, verdict),
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


def with_interval(engine, low, value, high):
    rates = {"images_per_second": value, "images_per_second_low": low, "images_per_second_high": high}
    times = {"p50_ms": 1e3 / value, "p50_low_ms": 1e3 / high, "p50_high_ms": 1e3 / low}
    return row(engine, throughput=rates, latency=times)


@pytest.mark.parametrize(
    ("other", "is_tie"),
    [((190.0, 205.0, 215.0), True), ((190.0, 204.0, 205.5), True), ((190.0, 200.0, 204.0), False)],
    ids=["higher than the best's number", "overlaps the interval alone", "apart"],
)
@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_rows_whose_interval_overlaps_the_bests_are_ties(objective, other, is_tie):
    rows = [with_interval("eager", 50.0, 60.0, 70.0), with_interval("trace", 205.0, 208.0, 211.0)]
    rows.append(with_interval("compile", *other))
    eligible = {one["case"]: judge(one, rows) for one in rows}
    assert chosen(rows, objective) == "trace"
    assert [one["engine"] for one in tied(rows, eligible, objective)] == (["compile"] if is_tie else [])


def test_a_row_that_fails_its_gate_and_one_without_a_number_tie_with_nothing():
    wrong = {**with_interval("compile", 190.0, 207.0, 211.0), "parity": None}
    none = row("script", throughput={"images_per_second": None}, latency={"p50_ms": None})
    rows = [with_interval("trace", 205.0, 208.0, 211.0), wrong, none]
    eligible = {one["case"]: judge(one, rows) for one in rows}
    assert tied(rows, eligible, "throughput") == tied(rows, eligible, "latency") == []
    assert tied([], {}, "latency") == []


def test_the_table_and_the_picture_name_ties(tmp_path):
    rest = {"peak_memory_mib": 1.0, "compile_s": 0.0}
    rows = [{**with_interval("trace", 205.0, 208.0, 211.0), **rest}, {**with_interval("eager", 200, 207, 214), **rest}]
    for one in rows:
        one["latency"] |= {"p99_ms": None, "rounds": 11, "p99_missing_rounds": 357}
    eligible = {one["case"]: judge(one, rows) for one in rows}
    table = render_best([rows], eligible, is_colour=False)
    assert re.search(r"^L\+T +m-cpu-fp32-bs1-trace", table, re.MULTILINE)
    assert re.search(r"^L=\+T= +m-cpu-fp32-bs1-eager", table, re.MULTILINE)
    draw(tmp_path / "picture.svg", [rows], eligible)
    assert "fp32 eager (tie)" in (tmp_path / "picture.svg").read_text()


def test_a_rate_of_too_few_windows_is_no_number_anywhere():
    rates, times = asdict(Throughput.of([1.0] * 2, [1] * 2, 1)), asdict(Latency.of([0.1] * 11))
    few = {**row("eager"), "throughput": rates, "latency": times, "peak_memory_mib": 1.0, "compile_s": 0.0}
    assert chosen([few], "throughput") is None
    assert disagreement(few) is None
    assert "w<5" in render_best([[few]], {few["case"]: judge(few, [few])}, is_colour=False)
    records = [{**few, "measurement": kind, **few[kind]} for kind in ("throughput", "latency")]
    assert "w<5" in render(rows_of(records), is_colour=False)
    assert results_yaml(records)


def calibrated(source):
    shares = {"int8": 100.0}
    return {
        "engine": "openvino",
        "dtype_share_pct": shares,
        "quantisation": {"calibration": {"source": source}},
    }


def test_int8_that_is_calibrated_on_data_may_be_chosen():
    rows = [row("eager"), row("openvino", "int8", **FAST, evidence=calibrated("/data"))]
    assert chosen(rows, "latency") == "openvino"


FAST = {"speed": 1000.0, "p50": 1.0}


@pytest.mark.parametrize(
    ("fast", "words"),
    [
        (row("openvino", **FAST, evidence={}), "no evidence"),
        (row("openvino", **FAST, evidence=None), "no evidence"),
        (row("openvino", **FAST, evidence={"engine": "eager", "dtype_share_pct": {"fp32": 100.0}}), "is of eager"),
        (row("openvino", **FAST, parity=None), "no parity"),
        (row("openvino", "int8", **FAST, evidence=calibrated("generated")), "calibrated on generated images"),
        (row("openvino", "bf16", **FAST, sqnr=9.9), "9.9 dB from fp32, the floor is 10"),
        (row("openvino", "bf16", **FAST, sqnr=float("nan")), "nan dB"),
        (row("openvino", "bf16", **FAST, agreement=69.0), "69% of classes agree"),
    ],
)
def test_a_row_that_is_not_proven_or_not_right_is_never_chosen_however_fast(fast, words):
    rows = [row("eager"), fast]
    assert words in "; ".join(judge(fast, rows).reasons)
    assert chosen(rows, "latency") == chosen(rows, "throughput") == "eager"


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (accuracy(0.1), None),
        (accuracy(-0.4), None),
        (accuracy(1.5, "fails"), "loses 1.50 points of top-1, the margin is 0.84"),
        (accuracy(0.1, absolute="fails"), "below its floor"),
        (accuracy(0.5, "cannot tell"), "may lose 1.00 points of top-1, the margin is 0.84: 1,000 images are too few"),
        (accuracy("reference"), "compared with nothing"),
        (None, "no accuracy was measured"),
    ],
    ids=["holds", "better", "loses", "floor", "too few", "uncompared", "none"],
)
def test_with_labels_only_a_row_whose_accuracy_holds_is_chosen(judged, words):
    rows = [row("eager", loss="reference"), row("openvino", "int8", **FAST, accuracy=judged)]
    verdict = judge(rows[1], rows)
    assert verdict.passes == (words is None), verdict
    assert (words or "") in "; ".join(verdict.reasons)
    assert verdict.basis == "top-1"
    assert chosen(rows, "throughput") == ("eager" if words else "openvino")


def coco(loss, **how):
    """The same of a detector."""
    made = accuracy(loss, **how)
    scores = {"ap": {"pct": 36.0}, "ap50": {"pct": 56.0}}
    return {**scores, "absolute": made["absolute"], "paired": made["paired"]}


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (coco(0.1), None),
        (coco(1.5, verdict="fails"), "loses 1.50 points of AP, the margin is 0.84"),
        (coco(0.1, absolute="fails"), "AP 36.00% or AP50 56.00% is below its floor"),
        (None, "no accuracy was measured"),
    ],
    ids=["holds", "loses", "floor", "none"],
)
def test_of_detectors_only_a_row_whose_ap_holds_is_chosen(judged, words):
    rows = [row("eager", coco=coco("reference")), row("openvino", "int8", **FAST, coco=judged)]
    verdict = judge(rows[1], rows)
    assert verdict.passes == (words is None) and (words or "") in "; ".join(verdict.reasons)
    assert verdict.basis == "AP"


@pytest.mark.parametrize(("loss", "passes"), [(0.5, True), (0.9, False)])
def test_what_cannot_be_told_passes_only_where_asked_and_within_the_margin(loss, passes):
    rows = [row("eager", loss="reference"), row("openvino", "int8", **FAST, loss=loss, verdict="cannot tell")]
    assert judge(rows[1], rows, allow_undecided=True).passes == passes
    assert not judge(rows[1], rows).passes


def test_an_accuracy_holds_for_every_batch_of_the_same_weights_and_no_others():
    other = {**row("openvino", "int8", loss=0.1), "batch": 32, "case": "m-cpu-int8-bs32-openvino"}
    fast = row("openvino", "int8", **FAST)
    assert judge(fast, [fast, other]).passes
    assert not judge(fast, [fast, {**other, "identity": {"weights": "w.pth", "weights_sha256": "b"}}]).passes
    assert not judge(fast, [fast, {**other, "engine": "compile"}]).passes


def test_nothing_is_chosen_where_nothing_passes_or_nothing_was_measured():
    assert chosen([row("eager", parity=None)], "latency") is None
    assert chosen([row("eager", latency={"p50_ms": None})], "latency") is None
    assert chosen([row("eager", latency=None)], "latency") is None
    assert chosen([], "latency") is None


def test_records_of_a_case_become_one_row_and_judging_leaves_them_alone():
    whole = row("eager", loss="reference")
    parts = ("throughput", "latency", "parity", "accuracy")
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
    rows = [row("eager", loss="reference"), row("openvino", loss=1.8, sqnr=20.0)]
    assert error_of(rows[1], judge(rows[1], rows)) == pytest.approx(1.8)
    rows = [row("eager"), row("openvino", sqnr=20.0)]
    assert error_of(rows[1], judge(rows[1], rows)) == -20.0


def test_the_picture_marks_the_front_the_best_and_what_fails(tmp_path):
    rows = [
        row("eager", loss="reference"),
        row("compile", speed=90.0, loss=0.3),
        row("trace", speed=20.0, loss=0.4),
        row("openvino", "int8", **FAST, loss=24.0, verdict="fails"),
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


def test_a_throughput_that_its_latency_denies_is_told():
    """One batch after the other gives ten a second at 100 ms: a window of them cannot be slower on the same machine."""
    assert disagreement(row("eager", speed=5.0, p50=100.0)) == (
        "its images/s is 50% of batch over p50: the machine was not the same for both"
    )
    times = {"p50_ms": 100.0, "p99_ms": None, "rounds": 11, "p99_missing_rounds": 651}
    slow = {**row("eager", speed=5.0), "latency": times, "peak_memory_mib": 1.0, "compile_s": 0.0}
    table = render_best([[slow]], {slow["case"]: judge(slow, [slow])}, is_colour=False)
    assert "passes; its images/s is 50% of batch over p50" in " ".join(table.split())


def test_a_window_that_is_faster_than_its_batches_is_told_only_where_nothing_overlaps():
    fast = row("eager", speed=40.0, p50=100.0)
    assert "400% of batch over p50" in str(disagreement(fast))
    assert disagreement({**fast, "device": "cuda"}) is None


@pytest.mark.parametrize("changes", [{}, {"speed": 14.0}, {"p50": None}, {"throughput": None}, {"latency": None}])
def test_numbers_that_agree_or_one_alone_deny_nothing(changes):
    assert disagreement(row("eager", **changes)) is None


def test_one_window_that_has_both_numbers_denies_nothing():
    served = {"images_per_second": 5.0, "p50_ms": 100.0}
    assert disagreement({**row("eager"), "latency": served, "throughput": served}) is None


def served_row(kind, answers_db, **more):
    """A row of a served model, whose one window gives speed and answers."""
    numbers = {"images_per_second": 5.0, "p50_ms": 100.0, "answers_sqnr_db": answers_db}
    plain = {key: value for key, value in row("eager").items() if key not in ("throughput", "latency", "parity")}
    (found,) = rows_of([{**plain, **numbers, "measurement": kind, **more}])
    return found


@pytest.mark.parametrize("kind", ["served", "open_loop"])
def test_a_served_row_is_judged_by_the_floor_of_its_answers(kind):
    right, wrong = served_row(kind, 100.0, sqnr_floor_db=60.0), served_row(kind, 59.0, sqnr_floor_db=60.0)
    assert judge(right, [right]).passes
    assert judge(wrong, [wrong]).reasons == ("answers are 59.0 dB from fp32, the floor is 60",)
    earlier = served_row(kind, 1.0)  # of a version that did not say the floor: it is that of the precision
    assert not judge(earlier, [earlier]).passes
