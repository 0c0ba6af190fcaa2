"""Comparing two runs: the verdict holds as often as it says, and what is no comparison is refused."""

import base64
import json
import math
import re

import numpy
import pytest
from scipy.signal import lfilter

from commands.__main__ import main
from harness.report.comparison import compare_accuracies, compare_images, compare_rounds, compare_runs, read_run

ENVIRONMENT = {
    "machine": {"node": "one", "memory_mib": 8},
    "devices": {"cpu": {"name": "C"}},
    "threads": {"intra_op": 2},
    "libraries": {"torch": "2.14.1"},
}


def drifting(generator, rounds, speed=1.0):
    """Rounds of a machine whose speed wanders by some percent, each like the one before."""
    noise = lfilter([1], [1, -0.9], generator.standard_normal(rounds + 200))[200:]
    return list(0.010 * speed * numpy.exp(0.01 * noise))


def run(tmp_path, name, rounds_s, *, schema=3, environment=ENVIRONMENT, measurement="latency", **changes):
    """Write a file of results with one row and return its path."""
    record = {
        "case": "m-cpu-fp32-bs1-eager",
        "device": "cpu",
        "measurement": measurement,
        "p50_ms": 10.0,
        "identity": {"weights_sha256": "a", "preprocessing": {"size": 224}},
        "evidence": {},
        **changes,
    }
    content = {
        "benchmarks": [{"extra_info": record, "stats": {"data": rounds_s}}],
        "visionmark": {"schema": schema, "environment": environment},
    }
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def verdict_of(first, second, **options):
    """The verdict and the refusal of the only pair."""
    pairs, _ = compare_runs([read_run(first)], [read_run(second)], bound_pct=3, **options)
    (pair,) = pairs
    return pair.ratio.verdict if pair.ratio else None, pair.refused


def test_a_run_against_itself_is_hardly_ever_called_different():
    generator = numpy.random.default_rng(17)
    found = [
        compare_rounds([drifting(generator, 500)], [drifting(generator, 500)], 3, use_mean=False).verdict
        for _ in range(100)
    ]
    assert sum(verdict in ("same", "cannot tell") for verdict in found) >= 95
    assert found.count("same") > 50, "a test that never decides is of no use"


def test_a_slowdown_of_a_tenth_is_found():
    generator = numpy.random.default_rng(17)
    found = [
        compare_rounds([drifting(generator, 500)], [drifting(generator, 500, 1.1)], 3, use_mean=False).verdict
        for _ in range(100)
    ]
    assert found.count("slower") >= 90
    ratio = compare_rounds([drifting(generator, 500, 1.1)], [drifting(generator, 500)], 3, use_mean=True)
    assert ratio.verdict == "faster"
    assert ratio.low < 1 / 1.1 < ratio.high


def test_too_few_rounds_say_how_many_are_missing():
    ratio = compare_rounds([[0.01] * 49], [[0.01] * 50], 3, use_mean=False)
    assert (ratio.verdict, ratio.value, ratio.reason) == (
        "cannot tell",
        None,
        "needs 50 rounds a side, or several runs; has 49",
    )
    wide = [0.010 if index // 6 % 2 else 0.011 for index in range(60)]
    ratio = compare_rounds([wide], [wide], 3, use_mean=False)
    assert (ratio.verdict, ratio.value) == ("cannot tell", 1.0)
    needed = re.fullmatch(r"needs about ([\d,]+) rounds, has 60", ratio.reason)
    assert needed
    assert 60 < int(needed[1].replace(",", "")) < 1000


def test_one_run_against_several_is_no_surer_than_runs_differ():
    """Runs of the same code differ by 4%, and within each hardly anything does."""
    generator = numpy.random.default_rng(17)

    def one_run():
        return list(0.010 * math.exp(0.04 * generator.standard_normal()) * (1 + 1e-4 * generator.standard_normal(60)))

    found = [compare_rounds([one_run()], [one_run() for _ in range(3)], 1, use_mean=False).verdict for _ in range(400)]
    assert found.count("slower") + found.count("faster") <= 20
    steady = [[0.0100] * 60, [0.0101] * 60, [0.0102] * 60]
    ratio = compare_rounds(steady, [[0.0202] * 60], 3, use_mean=False)
    assert (ratio.verdict, round(ratio.value, 2)) == ("slower", 2.0)
    assert ratio.low < 2 < ratio.high


def test_several_runs_a_side_are_judged_by_how_much_runs_differ():
    """Two runs that differ by a fifth say nothing of a third that lies between, however many rounds each has."""
    steady = [[0.010] * 100, [0.012] * 100]
    assert compare_rounds(steady, [[0.011] * 100, [0.0125] * 100], 3, use_mean=False).verdict == "cannot tell"
    assert compare_rounds([steady[0]], [[0.011] * 100], 3, use_mean=False).verdict == "slower"


def test_accuracies_are_compared_by_their_totals():
    assert compare_accuracies((838, 1000), (838, 1000), 5).verdict == "same"
    equal = compare_accuracies((5, 10), (5, 10), 3)
    assert (equal.verdict, equal.value) == ("cannot tell", 0), (
        "other images may be right: the interval is 74 points wide"
    )
    assert compare_accuracies((838, 1000), (600, 1000), 0.8).verdict == "worse"
    assert compare_accuracies((600, 1000), (838, 1000), 0.8).verdict == "better"
    assert compare_accuracies((838, 1000), (836, 1000), 0.1).verdict == "cannot tell"
    # Newcombe 1998, table II, example (a), method 10: 56/70 and 48/80
    ratio = compare_accuracies((48, 80), (56, 70), 1)
    assert (ratio.low, ratio.high) == (pytest.approx(5.24, abs=0.01), pytest.approx(33.39, abs=0.01))


def bits(right):
    """Which images are right, as a record has it."""
    return base64.b64encode(numpy.packbits(numpy.array(right, bool)).tobytes()).decode()


def test_images_are_compared_one_by_one_where_both_sides_say_which_were_right(tmp_path):
    """Of 1,003 images 840 are right; nine others are not on the second side, or nine are other ones."""
    right = [index < 840 for index in range(1003)]
    lost = [index < 831 for index in range(1003)]
    moved = [9 <= index < 849 for index in range(1003)]
    ratio = compare_images(*(base64.b64decode(bits(one)) for one in (right, lost)), 1003, 0.2)
    assert ratio.verdict == "worse", "as totals nothing could be said of nine in a thousand"
    # Bonett and Price 2012, equation 1, with the normal quantile: p12 = 10/1005, p21 = 1/1005
    assert (ratio.low, ratio.high) == (pytest.approx(-1.54, abs=0.01), pytest.approx(-0.25, abs=0.01))
    assert ratio.value == pytest.approx(-900 / 1003)
    assert compare_accuracies((840, 1003), (831, 1003), 0.2).verdict == "cannot tell"

    def score(name, flags, answers):
        top1 = {"pct": 100 * sum(flags) / 1003, "low_pct": 80.0, "high_pct": 87.0}
        more = {"images": 1000, "unreadable_images": 3, "right_base64": bits(flags), "answers_sha256": answers}
        return run(tmp_path, name, [1.0], measurement="accuracy", sample_sha256="s", top1=top1, **more)

    first = score("first", right, "x")
    assert verdict_of(first, score("same", right, "x"))[0] == "same"
    pairs, _ = compare_runs([read_run(first)], [read_run(score("moved", moved, "y"))], bound_pct=0.1)
    assert pairs[0].ratio.verdict == "cannot tell", "the totals are equal, and eighteen images are not"
    assert (pairs[0].first, pairs[0].second) == ("83.75%", "83.75%")
    twice, _ = compare_runs([read_run(first), read_run(score("b", lost, "z"))], [read_run(first)], bound_pct=3)
    assert "the runs of a side differ" in twice[0].ratio.reason


def test_a_detector_is_compared_by_its_average_precision_and_not_by_how_long_that_took(tmp_path):
    def ap(name, pct, seconds, **more):
        score = {"pct": pct, "low_pct": pct - 2, "high_pct": pct + 2}
        return run(tmp_path, name, [seconds], measurement="coco", sample_sha256="s", ap=score, images=94, **more)

    assert verdict_of(ap("a", 26.0, 5.0), ap("b", 15.0, 5.0))[0] == "worse"
    assert verdict_of(ap("c", 26.0, 5.0), ap("d", 26.0, 50.0))[0] == "cannot tell"
    answers = {"answers_sha256": "x"}
    assert verdict_of(ap("g", 26.0, 5.0, **answers), ap("h", 26.0, 50.0, **answers))[0] == "same"
    pairs, _ = compare_runs([read_run(ap("e", 26.0, 5.0))], [read_run(ap("f", 15.0, 5.0))], bound_pct=3)
    assert (pairs[0].first, pairs[0].second) == ("26.00%", "15.00%")


def test_a_load_is_compared_by_its_requests_and_not_by_how_long_it_was_asked_to_last(tmp_path):
    def served(name, request_ms, **changes):
        times = [request_ms + 0.001 * (index % 7) for index in range(200)]
        more = {"protocol": "grpc", "clients": 4, "rounds_ms": times, "p50_ms": request_ms, **changes}
        return run(tmp_path, name, [2.0], measurement=more.pop("measurement", "served"), **more)

    assert verdict_of(served("a", 40.0), served("b", 80.0))[0] == "slower"
    fixed = {"measurement": "open_loop", "rate_per_second": 50.0}
    assert verdict_of(served("c", 40.0, **fixed), served("d", 80.0, **fixed))[0] == "slower"
    refused = verdict_of(served("e", 40.0, **fixed), served("f", 40.0, **{**fixed, "rate_per_second": 60.0}))[1]
    assert "rate: 50.0 and 60.0" in refused


@pytest.mark.parametrize(
    ("measurement", "numbers"),
    [
        ("bulk", ({"images_per_second": 100.0}, {"images_per_second": 50.0})),
        ("training", ({"images_per_second": 100.0}, {"images_per_second": 50.0})),
        ("scenario", ({"mean_ms": 5.0, "samples_per_second": None}, {"mean_ms": 10.0, "samples_per_second": None})),
        ("scenario", ({"samples_per_second": 100.0, "mean_ms": 9.0}, {"samples_per_second": 50.0, "mean_ms": 9.0})),
    ],
)
def test_what_gives_one_number_a_run_is_told_from_several_runs(tmp_path, measurement, numbers):
    first, second = (
        [
            read_run(run(tmp_path, f"{side}{index}", [60.0], measurement=measurement, p50_ms=None, **varied))
            for index in range(3)
            for varied in [{name: value and value * (1 + 0.001 * index) for name, value in of_side.items()}]
        ]
        for side, of_side in zip("ab", numbers, strict=True)
    )
    pairs, _ = compare_runs(first, second, bound_pct=3)
    assert (pairs[0].ratio.verdict, round(pairs[0].ratio.value, 2)) == ("slower", 2.0)
    assert "none" not in (pairs[0].first, pairs[0].second)
    pairs, _ = compare_runs(first[:1], second[:1], bound_pct=3)
    assert "or several runs; has 1" in pairs[0].ratio.reason


def test_passes_over_files_are_compared_by_their_batches_since_schema_4(tmp_path):
    """Before it a round was a pass, which is as long as there are files."""
    old = run(tmp_path, "old", [2.0] * 60, schema=3, measurement="end_to_end", images_per_second=64.0)
    new = run(tmp_path, "new", [0.25] * 60, schema=4, measurement="end_to_end", images_per_second=64.0)
    assert verdict_of(old, old)[0] == "cannot tell"
    assert verdict_of(new, new)[0] == "same"


def test_a_measurement_that_is_not_known_is_not_compared_by_the_length_of_its_test(tmp_path):
    pairs, _ = compare_runs(
        *([read_run(run(tmp_path, name, [2.0] * 100, measurement="weather"))] for name in "ab"), bound_pct=3
    )
    assert pairs[0].ratio.reason == "rows of weather are not compared"
    checks = [run(tmp_path, name, [2.0] * 100, measurement="overhead") for name in "cd"]
    assert compare_runs(*([read_run(one)] for one in checks), bound_pct=3) == ([], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"identity": {"weights_sha256": "b", "preprocessing": {"size": 224}}}, "weights: a and b"),
        ({"identity": {"weights_sha256": "a", "preprocessing": {"size": 288}}}, "preprocessing: size 224 and 288"),
        ({"sample_sha256": "y"}, "data: x and y"),
        ({"evidence": {"quantisation": {"calibration": "y"}}}, "calibration: x and y"),
        ({"environment": {**ENVIRONMENT, "machine": {"node": "two", "memory_mib": 8}}}, "machine: node one and two"),
        ({"environment": {**ENVIRONMENT, "devices": {"cpu": {"name": "D"}}}}, "device: C and D"),
        ({"environment": {**ENVIRONMENT, "threads": {"intra_op": 1}}}, "threads: 2 and 1"),
        ({"environment": {**ENVIRONMENT, "libraries": {"torch": "2.13.0"}}}, "versions: torch 2.14.1 and 2.13.0"),
    ],
)
def test_what_is_no_comparison_is_refused(tmp_path, changes, words):
    rounds_s = [0.01 + 1e-6 * (index % 7) for index in range(100)]
    base = {"sample_sha256": "x", "evidence": {"quantisation": {"calibration": "x"}}}
    first = run(tmp_path, "a", rounds_s, **base)
    second = run(tmp_path, "b", rounds_s, **{**base, **changes})
    verdict, refused = verdict_of(first, second)
    assert verdict is None
    assert words in refused
    kind = words.partition(":")[0]
    if kind in ("machine", "device", "threads", "versions"):
        assert f"--across {kind}" in refused
        assert verdict_of(first, second, across=(kind,)) == ("same", "")
    else:
        assert "--across" not in refused
        assert verdict_of(first, second, across=("machine", "device", "threads", "versions"))[0] is None


def test_rows_of_a_shared_machine_decide_nothing(tmp_path):
    first = run(tmp_path, "a", [0.010] * 100)
    second = run(tmp_path, "b", [0.020] * 100, runqueue_wait_pct=51.0)
    assert verdict_of(first, second)[0] == "cannot tell"
    assert verdict_of(first, run(tmp_path, "c", [0.020] * 100, runqueue_wait_pct=2.0))[0] == "slower"


def test_windows_of_an_older_schema_are_not_taken_for_batches(tmp_path):
    """Before schema 3 a round of throughput was a window of any length."""
    old = run(tmp_path, "old", [0.5] * 100, schema=2, measurement="throughput", images_per_second=100.0)
    new = run(tmp_path, "new", [0.01] * 100, measurement="throughput", images_per_second=100.0)
    assert verdict_of(old, new)[0] == "cannot tell"
    assert verdict_of(run(tmp_path, "l", [0.01] * 100, schema=1), run(tmp_path, "m", [0.01] * 100))[0] == "same"


def test_the_command_says_by_its_exit_status_what_it_found(tmp_path, capsys):
    fast = run(tmp_path, "fast", [0.010 + 1e-6 * (index % 5) for index in range(100)])
    slow = run(tmp_path, "slow", [0.012 + 1e-6 * (index % 5) for index in range(100)])
    table = tmp_path / "table.md"
    table.write_text("before\n", encoding="utf-8")
    numbers = tmp_path / "numbers.json"
    assert main(["compare", str(fast), str(slow), "--markdown", str(table), "--json", str(numbers)]) == 1
    assert "slower" in capsys.readouterr().out
    assert table.read_text(encoding="utf-8").startswith("before\n| case |")
    (pair,) = json.loads(numbers.read_text(encoding="utf-8"))["pairs"]
    assert math.isclose(pair["ratio"]["value"], 1.2, rel_tol=1e-3)
    assert main(["compare", str(slow), str(fast)]) == 0
    assert main(["compare", str(fast), str(fast)]) == 0
    other = run(tmp_path, "other", [0.010] * 100, case="m-cpu-fp32-bs2-eager")
    assert main(["compare", str(fast), str(other)]) == 5
    assert "only the first side has m-cpu-fp32-bs1-eager" in capsys.readouterr().out
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    for wrong in ("absent.json", "none.json"):
        assert main(["compare", str(fast), str(tmp_path / wrong)]) == 4
        assert "--benchmark-json" in capsys.readouterr().err
