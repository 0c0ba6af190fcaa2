"""`visionmark recover`: what a run had measured before it was killed, and no more than that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from commands.__main__ import main
from fixtures.recording import SCHEMA
from harness.report.journal import JournalFile, read_runs
from selftests.inside import ROOT, TINY, clean_environment

FIRST, SECOND = (f"{TINY}-cpu-fp32-bs{batch}-eager" for batch in (1, 2))


@pytest.mark.slow
def test_a_run_that_was_killed_keeps_what_it_had_measured(tmp_path):
    """The kernel kills it in its second case, before pytest-benchmark has written anything."""
    path, out = tmp_path / "j.jsonl", tmp_path / "out.json"
    (tmp_path / "dying.py").write_text(
        "import os, signal\n"
        "def pytest_runtest_setup(item):\n"
        "    if 'bs2' in item.name and 'throughput' in item.name:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = (
        *("tests_perf/test_latency.py", "tests_perf/test_throughput.py", "--model", TINY, "--engine", "eager"),
        *("--precision", "fp32", "--batch-size", "1,2", "--device", "cpu", "--max-test-duration", "0.1"),
        *("--journal", str(path), "--benchmark-json", str(tmp_path / "never.json"), "-p", "dying"),
    )
    killed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**clean_environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    assert not (tmp_path / "never.json").exists()
    assert main(["recover", str(path), "--output", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = [(row["group"], row["extra_info"]["case"]) for row in found["benchmarks"]]
    assert rows == [("latency", FIRST), ("throughput", FIRST), ("latency", SECOND)]
    assert all(row["extra_info"]["evidence"]["engine"] == "eager" for row in found["benchmarks"])
    assert found["visionmark"]["schema"] == SCHEMA
    assert found["visionmark"]["environment"]["libraries"]["torch"]
    assert "--batch-size" in found["visionmark"]["command"]
    assert found["visionmark"]["recovered"]["opened"] == [FIRST, SECOND]
    stats = found["benchmarks"][0]["stats"]
    assert set(stats) == {"rounds", "data"}, "what only pytest-benchmark knew is made up"
    assert stats["rounds"] == len(stats["data"]) == found["benchmarks"][0]["extra_info"]["rounds"]


def write(path, *lines):
    file = JournalFile(path, is_new=False)
    for line in lines:
        file.write(line)
    file.close()


def row(case):
    return {"row": {"case": case, "measurement": "latency"}}


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "j.jsonl"


def test_the_case_in_which_it_ended_and_what_was_skipped_are_told(journal, capsys):
    gone = {"case": "b", "outcome": "skipped", "error": "Skipped", "reason": "tf32 needs a GPU"}
    write(journal, {"run": {}, "schema": 3}, {"opened": "a"}, row("a"), {"opened": "b"}, gone, {"opened": "c"})
    assert main(["recover", str(journal)]) == 0
    told = capsys.readouterr().out
    assert f"1 rows of 1 of 3 cases that were begun are in {journal.with_suffix('.json')}" in told
    assert "the run ended in c, which has no number" in told
    assert "skipped: b: tf32 needs a GPU" in told


def test_a_case_that_died_behind_its_first_row_is_where_the_run_ended(journal, capsys):
    over = {"closed": "a", "tests": ["t"], "at_s": 1.0}
    write(journal, {"run": {}, "schema": 4}, {"opened": "a"}, row("a"), over, {"opened": "b"}, row("b"))
    assert main(["recover", str(journal)]) == 0
    assert "the run ended in b, which has not all of its numbers" in capsys.readouterr().out
    write(journal, {"run": {}, "schema": 4}, {"opened": "c"}, row("c"))
    assert main(["recover", str(journal), "--output", str(journal.with_name("second.json"))]) == 0
    assert "the run ended in c, which has not all of its numbers" in capsys.readouterr().out


def test_of_several_runs_in_one_file_the_last_is_recovered_and_the_others_are_told(journal, capsys):
    write(journal, {"run": {"number": 1}}, row("of the first"))
    with journal.open("a") as file:
        file.write('{"row": {"ca')  # it died in this line
    write(journal, {"run": {"number": 2}}, row("of the second"))
    assert [run.environment for run in read_runs(journal)] == [{"number": 1}, {"number": 2}]
    assert main(["recover", str(journal)]) == 0
    found = json.loads(journal.with_suffix(".json").read_text())
    assert [one["name"] for one in found["benchmarks"]] == ["of the second"]
    assert found["visionmark"]["environment"] == {"number": 2}
    assert "1 earlier runs in j.jsonl are left out" in capsys.readouterr().out


def test_no_earlier_file_is_replaced(journal, tmp_path, capsys):
    write(journal, {"run": {}}, row("a"))
    (tmp_path / "j.json").write_text("earlier")
    assert main(["recover", str(journal)]) == 2
    assert (tmp_path / "j.json").read_text() == "earlier"
    assert "is there already; give another file with --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (None, 2, "no such file"),
        ([{"run": {}}, {"opened": "a"}], 1, "has no row"),
        ([], 1, "has no row"),
    ],
)
def test_where_there_is_no_number_no_file_is_written(journal, tmp_path, capsys, lines, status, words):
    if lines is not None:
        write(journal, *lines)
    assert main(["recover", str(journal)]) == status
    assert words in capsys.readouterr().err
    assert not (tmp_path / "j.json").exists()


def test_a_file_that_cannot_be_written_is_one_line(journal, capsys):
    write(journal, {"run": {}}, row("a"))
    assert main(["recover", str(journal), "--output", "/proc/none/out.json"]) == 2
    assert "/proc/none/out.json" in capsys.readouterr().err
