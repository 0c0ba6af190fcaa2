"""`make best` and `--engine best`, run for real on the smallest network."""

import json
import subprocess
import sys

import pytest

from commands.best import command as best
from commands.best import runs
from harness.report.journal import read_journal
from selftests.inside import ROOT, TINY, Outcome, clean_environment, run_here

COMMON = ("--model", TINY, "--batch-size", "2", "--device", "cpu")


def run_best(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "commands", "best", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    return Outcome(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
    return tmp_path_factory.mktemp("choices")


@pytest.fixture(scope="module")
def outcome(choices):
    """Two engines, one of which takes its process with it in bf16, its first precision."""
    return run_best(
        *(*COMMON, "--engine", "trace,eager", "--precision", "bf16,fp32", "--max-test-duration", "0.2"),
        *("--benchmark-min-rounds=64", "--choices", str(choices), "-p", "selftests.sabotage_dying"),
    )


@pytest.fixture
def kept(outcome, choices):
    (path,) = choices.glob("*.json")
    return path


@pytest.mark.slow
def test_an_engine_that_dies_loses_only_the_case_that_it_died_in(outcome, choices):
    folder = choices / TINY.replace(":", "_")
    table = (folder / "table.txt").read_text()
    for case in ("fp32-bs2-trace", "fp32-bs2-eager", "bf16-bs2-eager"):
        assert any(f"{TINY}-cpu-{case}" in line and "passes" in line for line in table.splitlines()), table
    assert f"died {TINY}-cpu-bf16-bs2-trace: exit status -9" in table
    assert "<svg" in (folder / "picture.svg").read_text()
    measured = [
        bench["extra_info"]["case"]
        for path in folder.glob("*.json")
        for bench in json.loads(path.read_text())["benchmarks"]
    ]
    assert sorted(measured) == sorted(
        3 * [f"{TINY}-cpu-{c}" for c in ("fp32-bs2-trace", "fp32-bs2-eager", "bf16-bs2-eager")]
    )


@pytest.mark.slow
def test_a_choice_with_a_case_missing_is_kept_and_says_so(outcome, kept):
    assert outcome.code == 1, outcome.text
    assert "1 cases failed by accident and did not compete" in outcome.text
    written = json.loads(kept.read_text())
    assert written["missing"] == [f"{TINY}-cpu-bf16-bs2-trace"]
    assert set(written["chosen"]) == {"latency", "throughput"}


@pytest.mark.slow
def test_engine_best_runs_the_kept_choice(kept, choices):
    written = json.loads(kept.read_text())["chosen"]["throughput"]
    outcome = run_here(
        *("tests_perf/test_throughput.py", *COMMON, "--engine", "best", "--best-for", "throughput"),
        *("--choices", str(choices), "--max-test-duration", "0.1"),
    )
    assert outcome.code == 0, outcome.text
    case = f"{TINY}-cpu-{written['precision']}-bs2-{written['engine']}"
    assert f"best for throughput: {case}" in outcome.text
    assert "1 passed" in outcome.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["circumstances"].update(machine="elsewhere"), "machine was elsewhere"),
        (lambda c: c["circumstances"]["libraries"].update(torch="1.0"), "libraries torch was 1.0"),
        (lambda c: c["circumstances"]["device"].update(name="Z80"), "device name was Z80"),
        (lambda c: c["circumstances"]["threads"].update(intra_op=77), "threads intra_op was 77"),
        (lambda c: c["circumstances"]["identity"].update(weights_sha256="0"), "weights_sha256 was 0"),
        (lambda c: c["chosen"].pop("latency"), "holds no choice for latency"),
        (lambda c: c["chosen"]["latency"].update(model="resnet18"), "is of resnet18"),
        (lambda c: c.update(schema=99), "format 99"),
        (lambda c: c.pop("circumstances"), "damaged"),
    ],
    ids=["machine", "versions", "device", "threads", "weights", "objective", "model", "schema", "damaged"],
)
def test_a_choice_made_otherwise_is_refused_with_the_command(kept, tmp_path, change, words):
    content = json.loads(kept.read_text())
    change(content)
    (tmp_path / kept.name).write_text(json.dumps(content))
    outcome = run_here("tests_perf/test_latency.py", *COMMON, "--engine", "best", f"--choices={tmp_path}")
    assert outcome.code == 4, outcome.text
    (error,) = [line for line in outcome.text.splitlines() if line.startswith("ERROR:")]
    assert words in error
    assert f"make best MODEL={TINY} BATCH=2" in error


def test_no_choice_is_a_usage_error_with_the_command(tmp_path):
    outcome = run_here(*COMMON, "--engine", "best", f"--choices={tmp_path}")
    assert outcome.code == 4, outcome.text
    assert f"make best MODEL={TINY} BATCH=2" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "best,eager"], "drop the others"),
        (["--engine", "best", "--precision", "fp32"], "drop --precision"),
        (["--engine", "best", "--jit", "trace"], "drop --jit"),
        (["--best-for", "latency"], "add --engine best"),
    ],
)
def test_what_would_choose_beside_the_choice_is_refused(arguments, words, tmp_path):
    outcome = run_here(*COMMON, *arguments, f"--choices={tmp_path}")
    assert outcome.code == 4, outcome.text
    assert words in outcome.text


def test_an_engine_that_is_not_there_is_skipped_with_its_reason(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(runs, "absent", lambda engine: "make setup-ipex")
    monkeypatch.setattr(runs, "ELSEWHERE", {})
    assert best.main(["--model", TINY, "--engine", "ipex", "--choices", str(tmp_path)]) == 1
    out = capfd.readouterr().out
    assert "skipped 1: make setup-ipex" in out
    assert "no case gave a row: nothing is chosen" in out


def test_one_who_interrupts_gets_the_table_and_no_choice(tmp_path, monkeypatch, capfd):
    asked = []

    def interrupted(one, engine):
        asked.append((one.model, engine))
        return runs.Measured(runs.INTERRUPTED, (), is_ours=True)

    monkeypatch.setattr(best, "measure", interrupted)
    assert best.main(["--model", "resnet18,resnet34", "--choices", str(tmp_path)]) == 130
    assert asked == [("resnet18", "eager")]
    assert "interrupted: nothing is chosen" in capfd.readouterr().out
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(("code", "expected"), [(143, 1), (-15, 1), (-9, 2), (139, 2)])
def test_a_process_that_is_stopped_is_no_accident_and_none_follows_it(tmp_path, monkeypatch, code, expected):
    """The sabotage: a process that is killed, after which another one goes on; a stopped one has been told to end."""
    calls = tmp_path / "calls"
    script = f"""
import os, signal, sys
from pathlib import Path
with open({str(calls)!r}, "a") as file: file.write("x")
Path(sys.argv[sys.argv.index("--journal") + 1]).write_text('{{"run": {{}}}}\\n{{"opened": "m-cpu-fp32-bs1-eager"}}\\n')
if len(Path({str(calls)!r}).read_text()) > 1: sys.exit(0)
os.kill(os.getpid(), {-code}) if {code} < 0 else sys.exit({code})
"""
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\n{script}")
    stand_in.chmod(0o755)
    monkeypatch.setattr(runs, "_python_of", lambda engine: (str(stand_in), True))
    asked = runs.Asked("m", ("eager",), "fp32", None, (), tmp_path, tmp_path)
    measured = runs.measure(asked, "eager")
    assert len(calls.read_text()) == expected
    assert (measured.code in runs.STOPPED) == (expected == 1)
    died = [one.case for journal in measured.journals for one in journal.missing if one.outcome == "died"]
    assert died == (["m-cpu-fp32-bs1-eager"] if expected == 2 else [])


def test_a_command_line_that_pytest_refuses_ends_at_once(tmp_path):
    outcome = run_best("--model", "nosuch", "--choices", str(tmp_path))
    assert outcome.code == 4, outcome.text
    assert "engine 1 of" in outcome.text
    assert "engine 2 of" not in outcome.text


def results_of_last_time(tmp_path):
    folder = tmp_path / TINY.replace(":", "_")
    folder.mkdir()
    for name in ("eager.json", "eager.jsonl", "script-2.jsonl", "table.txt", "mine.json"):
        (folder / name).write_text("last time")
    return folder


def names_in(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("code", "status"), [(runs.USAGE_ERROR, 4), (runs.INTERRUPTED, 130), (runs.TERMINATED, 143)])
def test_results_of_last_time_stay_until_new_ones_are_whole(tmp_path, monkeypatch, code, status):
    folder = results_of_last_time(tmp_path)
    before = names_in(folder)
    monkeypatch.setattr(best, "measure", lambda asked, engine: runs.Measured(code, (), is_ours=True))
    assert best.main(["--model", TINY, "--choices", str(tmp_path)]) == status
    assert names_in(folder) == before
    assert all(path.read_text() == "last time" for path in folder.iterdir())
    interrupted = {f"{folder.name}-interrupted"} if status in runs.STOPPED else set()
    assert names_in(tmp_path) == {folder.name} | interrupted


def test_new_results_replace_those_of_last_time_and_nothing_of_yours(tmp_path, monkeypatch):
    folder = results_of_last_time(tmp_path)

    def measured(asked, engine):
        assert names_in(folder) >= {"eager.json", "table.txt"}, "still there while the new ones are measured"
        (asked.folder / f"{engine}.jsonl").write_text("new")
        return runs.Measured(0, (), is_ours=True)

    monkeypatch.setattr(best, "measure", measured)
    best.main(["--model", TINY, "--engine", "eager", "--choices", str(tmp_path)])
    assert names_in(folder) == {"eager.jsonl", "table.txt", "mine.json"}
    assert (folder / "eager.jsonl").read_text() == "new"
    assert (folder / "mine.json").read_text() == "last time"


def test_a_journal_that_broke_off_is_read_to_its_last_whole_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"run": {"a": 1}}\n{"opened": "x"}\n{"row": {"ca')
    journal = read_journal(path)
    assert (journal.environment, journal.last, journal.records) == ({"a": 1}, "x", ())
    path.write_text('{"run": {"a"\n{"opened": "x"}\n')
    with pytest.raises(ValueError, match="j.jsonl:1"):
        read_journal(path)
    assert read_journal(tmp_path / "none").last is None


def a_row(engine, speed, low, high):
    return {
        **{"case": f"m-cpu-fp32-bs1-{engine}", "model": "m", "device": "cpu", "precision": "fp32", "batch": 1},
        **{"engine": engine, "identity": {"weights": "random"}, "latency": {"p50_ms": 1000 / speed}},
        "throughput": {
            **{"images_per_second": speed, "images_per_second_low": low, "images_per_second_high": high},
        },
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([a_row("eager", 10, 9, 11), a_row("trace", 20, 18, 22)], "m-cpu-fp32-bs1-trace (images_per_second 20)\n"),
        (
            [a_row("eager", 10, 9, 11), a_row("trace", 20, 18, 22), a_row("script", 19, 17, 21)],
            "m-cpu-fp32-bs1-trace (images_per_second 20; a tie with m-cpu-fp32-bs1-script)\n",
        ),
    ],
)
def test_the_kept_choice_is_told_with_its_ties(rows, words, tmp_path, capsys):
    asked = best.read_asked(["--model", "m", "--choices", str(tmp_path)])[0]
    eligible = {row["case"]: best.Eligibility((), "parity", None) for row in rows}
    environment = {
        **{"libraries": {"torch": "2"}, "devices": {"cpu": {}}, "machine": {"node": "n"}, "variables": {}},
        "threads": {"intra_op": 1, "usable_cores": [0]},
    }
    assert best._keep(asked, rows, eligible, environment, ())
    assert f"throughput: {words}" in capsys.readouterr().out
