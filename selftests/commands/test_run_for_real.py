"""`visionmark run` with pytest's own processes, on the smallest network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from harness.report.journal import read_entries
from harness.report.supervised import case_states
from selftests.commands.supervised_runs import wait_for
from selftests.inside import ROOT, TINY, clean_environment, run_here

ENGINES = ("eager", "trace", "script")
NINE = [f"{TINY}-cpu-fp32-bs{batch}-{engine}" for engine in ENGINES for batch in (1, 2, 4)]
SHORT = ("--precision", "fp32", "--device", "cpu", "--max-test-duration", "0.1", "--telemetry", "off")


def started(out, faults, *arguments):
    words = [*("run", "tests_perf/test_latency.py", "--model", TINY, *SHORT), *arguments, f"--benchmark-json={out}"]
    return subprocess.Popen(
        [sys.executable, "-m", "commands", *words, "-p", "selftests.sabotage_cases"],
        cwd=ROOT,
        env={**clean_environment(), "SABOTAGE": json.dumps(faults)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcomes(out):
    return {one["case"]: one["outcome"] for one in json.loads(out.read_text())["visionmark"]["outcomes"]}


def test_a_process_writes_what_its_watcher_has_to_know(tmp_path):
    """Which cases there are, and in the journal when each begins and ends, its tests, its rounds and its identity."""
    journal, cases = tmp_path / "j.jsonl", tmp_path / "cases.json"
    words = ("tests_perf/test_latency.py", "--model", TINY, "--engine", "eager", "--batch-size", "1,2", *SHORT)
    plugin = ("-p", "fixtures.one_case")
    found = run_here(*words, *plugin, "--collect-only", "-q", variables={"VISIONMARK_CASES_FILE": str(cases)})
    assert found.code == 0, found.text
    told = json.loads(cases.read_text())
    assert told["cases"] == NINE[:2]
    assert [test["expected_s"] for test in told["tests"]] == [0.1, 0.1]
    outcome = run_here(*words, *plugin, f"--journal={journal}", variables={"VISIONMARK_CASE": NINE[1]})
    assert outcome.code == 0, outcome.text
    states = case_states(read_entries(journal))
    assert list(states) == [NINE[1]], "the other case is not run"
    state = states[NINE[1]]
    assert state.took_s > 0
    assert state.stands_for([test["test"] for test in told["tests"] if test["name"] == NINE[1]], told["identity"])
    (row,) = state.rows
    assert len(row[1]) == row[0]["rounds"] > 0, "the rounds are in the journal"


def test_a_run_of_pytest_says_what_it_would_do_and_does_nothing():
    outcome = run_here(
        *("tests_perf/test_latency.py", "tests_perf/test_end_to_end.py", "--model", TINY, "--engine", "eager"),
        *("--batch-size", "1", "--precision", "fp32,tf32", "--device", "cpu", "--max-test-duration", "0.1", "--plan"),
    )
    assert outcome.code == 0, outcome.text
    assert f"run {NINE[0]}: 2 tests, about 8 s by the durations asked for" in outcome.text
    assert "unsupported 1: " in outcome.text
    assert "1 of 2 cases run: about 18 s" in outcome.text
    assert "passed" not in outcome.text


def test_a_case_out_of_memory_ends_its_process_in_order(tmp_path):
    """What memory is left may be too little for the next case, which a new process measures."""

    class Exhausted:
        def pytest_runtest_call(self, item):
            if "bs1" in item.name:
                raise MemoryError

    journal = tmp_path / "j.jsonl"
    outcome = run_here(
        *("tests_perf/test_latency.py", "--model", TINY, "--engine", "eager", "--batch-size", "1,2", *SHORT),
        *("-p", "fixtures.one_case", f"--journal={journal}"),
        plugin=Exhausted(),
        variables={"VISIONMARK_CASE": "\n".join(NINE[:2])},
    )
    assert outcome.code == 2, outcome.text
    states = case_states(read_entries(journal))
    assert {case: state.outcome for case, state in states.items()} == {NINE[0]: "out_of_memory"}


@pytest.mark.slow
def test_of_nine_cases_six_are_measured_and_three_are_typed_for_real(tmp_path):
    out = tmp_path / "out.json"
    faults = {NINE[1]: "segv", NINE[3]: "hang", NINE[8]: "memory"}
    arguments = ("--engine", ",".join(ENGINES), "--batch-size", "1,2,4", "--case-timeout", "60")
    process = started(out, faults, *arguments)
    text, _ = process.communicate(timeout=280)
    assert process.returncode == 1, text
    typed = {NINE[1]: "crashed: SIGSEGV", NINE[3]: "timeout", NINE[8]: "out_of_memory"}
    assert outcomes(out) == {**dict.fromkeys(NINE, "measured"), **typed}, text
    assert len(json.loads(out.read_text())["benchmarks"]) == 6
    assert "case 9 of 9" in text


@pytest.mark.slow
def test_a_killed_run_of_three_cases_is_resumed_for_real(tmp_path):
    out = tmp_path / "out.json"
    three = ("--engine", "eager", "--batch-size", "1,2,4")
    process = started(out, {NINE[1]: "hang"}, *three)
    journal = out.with_suffix(".jsonl")
    wait_for(lambda: any(entry.get("opened") == NINE[1] for entry in read_entries(journal)), 120)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = len(read_entries(journal))
    process = started(out, {}, *three, "--resume")
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert [entry["opened"] for entry in read_entries(journal)[before:] if "opened" in entry] == NINE[1:3]
    assert "1 cases were measured before and are left out" in text
    assert outcomes(out) == dict.fromkeys(NINE[:3], "measured")
