"""Profiles: their files, what is wrong with one, and a run of one that is broken off and taken up again."""

from __future__ import annotations

import csv
import json

import pytest

from fixtures.options.table import columns
from harness.profiles import (
    TEST_DURATION,
    BadProfile,
    flattened,
    identity_of_row,
    is_complete,
    read_profile,
    summary_csv,
)
from selftests.inside import ROOT, TINY, run_here

HEADING = "model_name,batch_size,num_inputs,streams,test_duration,precision"
# Rows with 1, 2 and 4 streams of each profile of the sample.
ROWS = {
    **{"c100.bf16": (6, 6, 5), "c100.fp16": (6, 6, 5), "c100.fp32": (6, 5, 4)},
    **{f"b0.{precision}": (6, 5, 4) for precision in ("fp32", "bf16", "fp16")},
    **{"b4.bf16": (6, 5, 4), "b4.fp16": (6, 5, 4), "b4.fp32": (5, 4, 3)},
}
MODELS = {"c100": ("fbnetc_100", 20), "b0": ("efficientnet_b0", 10), "b4": ("efficientnet_b4", 10)}


def write(tmp_path, *lines, heading=HEADING):
    path = tmp_path / "profile.csv"
    path.write_text("\n".join([heading, *lines]) + "\n")
    return path


@pytest.mark.parametrize("name", ROWS)
def test_the_profiles_are_the_samples(name):
    path = ROOT / "profiles" / f"{name}.csv"
    assert path.read_text().splitlines()[0] == HEADING
    rows = [row.columns for row in read_profile(path, columns())]
    model, passes = MODELS[name.partition(".")[0]]
    batches = ["1", "4", "16", "64", "128", "256"]
    assert [(row["streams"], row["batch_size"]) for row in rows] == [
        (streams, batch) for streams, count in zip("124", ROWS[name], strict=True) for batch in batches[:count]
    ]
    for row in rows:
        assert row["model_name"] == model
        assert int(row["num_inputs"]) == passes * int(row["batch_size"])
        assert row[TEST_DURATION] == "60"
        assert row["precision"] == name.partition(".")[2]


def test_there_is_no_other_profile():
    assert {path.stem for path in (ROOT / "profiles").glob("*.csv")} == set(ROWS)


def test_rows_are_cases_and_their_order_is_the_files(tmp_path):
    path = write(tmp_path, f"{TINY},2,20,2,1,bf16", f"{TINY},1,20,1,1,fp32", f"{TINY},1,20,1,1,fp32")
    text = run_here("--collect-only", "-q", f"--profile={path}", "--jit=none", "--amp=no").text
    ids = [line.partition("[")[2].rstrip("]") for line in text.splitlines() if "test_streams" in line]
    assert ids == [
        f"row1-{TINY}-cpu-bf16-bs2-eager-x2",
        f"row2-{TINY}-cpu-fp32-bs1-eager",
        f"row3-{TINY}-cpu-fp32-bs1-eager",
    ]


def test_a_column_more_is_an_option(tmp_path):
    path = write(tmp_path, f"{TINY},1,20,1,1,fp32,script", heading=HEADING + ",jit")
    assert f"row1-{TINY}-cpu-fp32-bs1-script" in run_here("--collect-only", "-q", f"--profile={path}").text


@pytest.mark.parametrize(
    ("heading", "lines", "words"),
    [
        (HEADING + ",colour", [f"{TINY},1,20,1,1,fp32,red"], ["heading", "column 'colour' is unknown", "batch_size"]),
        (HEADING, [f"{TINY},1,20,1,1,fp32", f"{TINY},1,20,1,1,fp7"], ["row 2, column precision", "'fp7'"]),
        (HEADING, [f"{TINY},0,20,1,1,fp32"], ["row 1, column batch_size", "'0'"]),
        (HEADING, ["nosuch,1,20,1,1,fp32"], ["row 1, column model_name", "nosuch"]),
        (HEADING, [f"{TINY},1,20,1,soon,fp32"], ["row 1, column test_duration", "soon"]),
        (HEADING, [f"{TINY},1,20,1"], ["row 1: 4 values for 6 columns"]),
        (HEADING, [], ["no rows"]),
        (HEADING + ",streams", [f"{TINY},1,20,1,1,fp32,2"], ["column 'streams' is there twice"]),
        (HEADING + ",min_test_duration", [f"{TINY},1,20,1,1,fp32,2"], ["row 1: min_test_duration and test_duration"]),
        (HEADING, [f'{TINY},"1,2",20,1,1,fp32'], ["row 1 is 2 cases, and a row is one"]),
    ],
)
def test_what_is_wrong_is_named_with_its_row_and_column(tmp_path, heading, lines, words):
    outcome = run_here("--collect-only", f"--profile={write(tmp_path, *lines, heading=heading)}")
    assert outcome.code == 4, outcome.text
    assert all(word in outcome.text for word in words), outcome.text


def test_a_profile_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(BadProfile, match="give a CSV"):
        read_profile(tmp_path / "none.csv", columns())
    assert run_here("--resume").code == 4


def test_a_record_of_something_else_is_not_complete(tmp_path):
    (row,) = read_profile(write(tmp_path, f"{TINY},1,20,1,1,fp32"), columns())
    environment = {"devices": {}, "libraries": {"torch": "2.14.1"}, "variables": {}, "fpmath_mode": None}
    identity = identity_of_row(row, "case", {"weights": "random"}, environment)
    kept = tmp_path / "record.json"
    assert not is_complete(kept, identity)
    kept.write_text(json.dumps({"status": "passed", "identity": identity}))
    assert is_complete(kept, identity)
    newer = {**environment, "libraries": {"torch": "2.15.0"}}
    assert not is_complete(kept, identity_of_row(row, "case", {"weights": "random"}, newer))
    assert not is_complete(kept, identity_of_row(row, "case", {"weights": "pretrained"}, environment))
    kept.write_text(json.dumps({"status": "failed", "identity": identity}))
    assert not is_complete(kept, identity)
    kept.write_text('{"status": "passed", "iden')
    assert not is_complete(kept, identity)


def test_the_summary_has_every_key_of_every_row():
    rows = [flattened({"a": {"b": 1, "c": [2, 3]}}), flattened({"a": {"b": 4}, "d": None})]
    assert list(csv.DictReader(summary_csv(rows).splitlines())) == [
        {"a.b": "1", "a.c.0": "2", "a.c.1": "3", "d": ""},
        {"a.b": "4", "a.c.0": "", "a.c.1": "", "d": ""},
    ]


def test_one_failing_row_loses_no_other_and_is_taken_up_again(tmp_path):
    """An impossible batch in the middle: two million images are more memory than there is."""
    path = write(tmp_path, f"{TINY},1,20,1,1,fp32", f"{TINY},2000000,20,1,1,fp32", f"{TINY},2,20,1,1,fp32")
    out = tmp_path / "out"
    arguments = (f"--profile={path}", f"--output-dir={out}", "--jit=none", "--device=cpu")
    outcome = run_here(*arguments)
    assert outcome.code == 1, outcome.text
    assert "profile: 3 rows, 2 passed, 1 failed" in outcome.text
    summary = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [row["status"] for row in summary] == ["passed", "failed", "passed"]
    assert "allocate memory" in summary[1]["reason"]
    for row, number in zip(summary, (1, 2, 3), strict=True):
        assert (out / f"results_test_{number}.json").exists()
        assert (out / f"test_{number}" / "test.csv").exists()
        assert (float(row["results.metrics.throughput.avg"] or 0) > 0) == (number != 2)
    assert json.loads((out / "sysinfo.json").read_text())["libraries"]["torch"]
    again = run_here(*arguments)
    assert again.code == 4
    assert "add --resume" in again.text
    before = {number: (out / f"test_{number}" / "record.json").stat().st_mtime_ns for number in (1, 2, 3)}
    resumed = run_here(*arguments, "--resume")
    assert resumed.code == 1, resumed.text
    assert "1 failed, 2 measured before" in resumed.text
    after = {number: (out / f"test_{number}" / "record.json").stat().st_mtime_ns for number in (1, 2, 3)}
    assert [number for number in before if before[number] != after[number]] == [2]
    assert len(list(csv.DictReader((out / "summary.csv").read_text().splitlines()))) == 3
    write(tmp_path, f"{TINY},1,20,1,1,fp32")
    done = run_here(*arguments, "--resume")
    assert done.code == 0, "nothing was left to do"
    assert "profile: 1 rows, 1 measured before" in done.text
