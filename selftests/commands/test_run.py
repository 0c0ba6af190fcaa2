"""`visionmark run`: a case that takes its process with it is told as what it was, and takes no other with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands.__main__ import main
from commands.run import command
from commands.run.alone import journal_beside, journal_of_our_own, logs_beside, set_aside
from commands.run.results import render
from harness.files import CHECKOUT
from harness.host.memory_kills import MemoryReading, killed_for_memory, read_memory
from harness.jobs.sweep import CasePiece, CaseResult
from harness.report.comparison import read_run
from harness.report.journal import append_line, read_entries
from harness.report.outcomes import Ending, needs_new_process, outcome_of_ending, outcome_of_error
from harness.report.pace import Pace, in_words
from harness.report.plan import describe, describe_supervision, plan_cases
from harness.report.supervised import CaseState
from selftests.commands.supervised_runs import NINE, SupervisedRun, a_test, found_of, wait_for


@pytest.fixture
def run(tmp_path):
    return SupervisedRun(tmp_path)


def test_of_nine_cases_three_are_typed_and_six_are_measured(run):
    typed = (NINE[1], NINE[3], NINE[8])
    assert run(faults={NINE[1]: "segv", NINE[8]: "memory"}, hangs=NINE[3]) == 1
    assert {name: run.outcomes[name] for name in typed} == {
        **{NINE[1]: "crashed: SIGSEGV", NINE[3]: "timeout", NINE[8]: "out_of_memory"},
    }
    assert [run.outcomes[name] for name in NINE if name not in typed] == ["measured"] * 6
    assert [row["name"] for row in run.document["benchmarks"]] == [name for name in NINE if name not in typed]
    assert sorted(run.begun()) == sorted(NINE), "each is begun once"
    assert "in stand_still (cases_child.py:" in run.reasons[NINE[3]], "a hang says where"
    assert "in misbehave (cases_child.py:" in run.reasons[NINE[1]], "and so does a crash"
    assert "case 9 of 9" in run.text
    assert "6 measured" in run.text


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("kill", "crashed: SIGKILL", "nothing shows that memory was short"),
        ("bad_alloc", "out_of_memory", "std::bad_alloc"),
        ("memory", "out_of_memory", "MemoryError"),
        ("lost", "device_lost", "fallen off the bus"),
        ("at_exit", "crashed: SIGSEGV", "after the last test of the case"),
        ("exit3", "failed", "exit status 3"),
        ("torn", "crashed: SIGKILL", "killed from outside"),
    ],
)
def test_what_ends_a_process_is_told_of_its_case_alone(run, fault, outcome, words):
    names = NINE[:3]
    at = 2 if fault == "at_exit" else 1
    assert run(*map(a_test, names), faults={names[at]: fault}) == 1
    assert run.outcomes == {**dict.fromkeys(names, "measured"), names[at]: outcome}
    assert words in run.reasons[names[at]]
    assert (names[at] in [row["name"] for row in run.document["benchmarks"]]) == (fault == "at_exit")


def test_a_kill_by_the_kernel_is_out_of_memory(run, tmp_path):
    """The process ends by SIGKILL, and the kernel's count of such kills is one more than before."""
    events = tmp_path / "sys/fs/cgroup/a/memory.events"
    events.parent.mkdir(parents=True)
    events.write_text("oom 0\noom_kill 4\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a\n")
    names, memory = NINE[:3], partial(read_memory, tmp_path)
    assert run(*map(a_test, names), faults={names[1]: "oom"}, variables={"OOM_EVENTS": str(events)}, memory=memory) == 1
    assert run.outcomes == {**dict.fromkeys(names, "measured"), names[1]: "out_of_memory"}
    assert run.reasons[names[1]].endswith("of its control group rose from 4 to 5")


def test_what_is_proven_is_left_out_and_the_rest_runs(run):
    assert run(faults={NINE[4]: "kill"}) == 1
    assert run(resumes=True) == 0
    assert run.begun()[9:] == [NINE[4]], "only what was not measured is begun again"
    logs = run.out.with_suffix(".logs")
    assert len(list(logs.iterdir())) == 5, "each process has a log of its own: three, one after the kill, one now"
    assert run.outcomes == dict.fromkeys(NINE, "measured")
    assert len(run.document["benchmarks"]) == 9


@pytest.mark.parametrize("change", ["identity", "tests"])
def test_what_was_measured_as_something_else_is_measured_again(run, change):
    name = NINE[0]
    assert run(a_test(name), variables={"IDENTITY": "other"} if change == "identity" else {}) == 0
    again = a_test(name) if change == "identity" else a_test(name, test="t.py::another")
    run(again, resumes=True)
    assert run.begun() == [name, name]
    assert len(run.document["benchmarks"]) == 1, "and the number of before is not in the file"


class Tree:
    """A supervised run as a process, whose fourth case hangs, and which has begun that one."""

    def __init__(self, run):
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from selftests.commands.supervised_runs import SupervisedRun, NINE\n"
            "sys.exit(SupervisedRun(Path(sys.argv[1]))(faults={NINE[3]: 'hang'}))\n"
        )
        words = [sys.executable, "-c", code, str(run.out.parent)]
        self.process = subprocess.Popen(words, cwd=CHECKOUT, start_new_session=True)
        wait_for(lambda: NINE[3] in run.begun())
        self.child = [entry["run"]["process"] for entry in read_entries(run.journal) if "run" in entry][-1]

    def end(self, number):
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=60)


@pytest.fixture
def tree(run):
    started = Tree(run)
    yield started
    started.process.kill()
    started.process.wait()


def is_gone(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_kill_of_the_whole_tree_loses_the_case_that_ran_and_no_more(tree, run):
    assert not is_gone(tree.child)
    assert tree.end(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: is_gone(tree.child))  # the kernel ends it with its starter
    assert run(resumes=True) == 0
    assert run.begun()[4:] == NINE[3:]
    assert len(run.document["benchmarks"]) == 9


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_ends_its_child_and_writes_what_it_has(tree, run, number, status):
    assert tree.end(number) == status
    assert is_gone(tree.child)
    assert [run.outcomes[name] for name in NINE] == ["measured"] * 3 + ["unfinished"] * 6
    assert f"{number.name}: the run was stopped while it was measured" in run.reasons[NINE[3]]
    assert "not begun" in run.reasons[NINE[4]]
    assert run.document["visionmark"]["stopped_by"] == number.name
    assert run(resumes=True) == 0
    assert run.begun()[4:] == NINE[3:]


def test_two_runs_do_not_write_one_journal(tmp_path):
    path = tmp_path / "out.jsonl"
    with journal_of_our_own(path, is_new=True):
        append_line(path, {"planned": []})
        with pytest.raises(BlockingIOError), journal_of_our_own(path, is_new=False):
            pass
    with journal_of_our_own(path, is_new=False):
        assert read_entries(path) == [{"planned": []}]
    with journal_of_our_own(path, is_new=True):
        assert read_entries(path) == []
    assert len(list(tmp_path.glob("out.*Z*.jsonl"))) == 1, "that of the run before is kept"


def test_the_watcher_needs_little_memory_of_its_own():
    code = "import sys, commands.run.command; print('torch' in sys.modules, 'commands.run.supervisor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_what_an_earlier_run_left_is_not_read_as_of_this_one(tmp_path):
    out, log = tmp_path / "out.json", tmp_path / "out.logs" / "001-m-eager.txt"
    log.parent.mkdir()
    for path in (out, log):
        path.write_text("earlier")
    set_aside(out, is_new=False)
    assert out.exists() and log.exists(), "a run that goes on keeps them"
    set_aside(out, is_new=True)
    assert not out.exists() and not log.exists()
    assert (tmp_path / "out.json.before").read_text() == "earlier", "no number is lost before there is a new one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-x"], "-x: a run goes on after a failure"),
        (["--maxfail=2"], "--maxfail=2: a run goes on"),
        (["-n", "2"], "-n: cases that run beside each other would not be timed"),
        (["--journal", "j.jsonl"], "--journal: the journal lies beside the file of --benchmark-json"),
        (["--collect-only"], "--plan says what would run"),
        (["--cluster", "h:1", "--resume"], "--resume is of a run on this machine"),
        (["--cluster", "h:1", "--case-timeout", "3"], "--case-timeout is of a run on this machine"),
    ],
)
def test_what_a_supervised_run_cannot_obey_is_a_usage_error(arguments, words, capsys, monkeypatch):
    monkeypatch.delenv("OUTPUT_DIR", raising=False)
    assert main(["run", *arguments]) == 4
    assert words in capsys.readouterr().err


def test_the_file_is_one_that_compare_reads_with_its_rounds(run):
    run(*map(a_test, NINE[:2]))
    rows = read_run(run.out).rows
    assert [row.rounds_s for row in rows.values()] == [(0.002,) * 3] * 2


def test_what_an_error_says_is_shown_as_it_is():
    text = render([CaseState("m", "failed", "[enforce fail at alloc.cpp:1] of [/b]"), CaseState("n", "skipped", "[x]")])
    assert "[enforce fail at alloc.cpp:1] of [/b]" in text
    assert "skipped 1: [x]" in text
    assert "2 cases: 1 failed, 1 skipped" in text


def test_the_journal_of_all_processes_can_be_recovered_alone(run, tmp_path, capsys):
    run(faults={NINE[4]: "segv"})
    out = tmp_path / "recovered.json"
    assert main(["recover", str(run.journal), "--output", str(out)]) == 0
    assert [row["name"] for row in json.loads(out.read_text())["benchmarks"]] == [*NINE[:4], *NINE[5:]]
    assert f"crashed: SIGSEGV: {NINE[4]}" in capsys.readouterr().out


def test_nothing_of_what_was_named_is_5_and_a_hole_is_not(run):
    absent = a_test(NINE[3], never="trace is not here: install it")
    assert run(*map(a_test, NINE[:2]), absent) == 0
    assert run.outcomes[NINE[3]] == "unsupported"
    assert run.begun() == NINE[:2], "what cannot run needs no process"
    assert run(*map(a_test, NINE[:2]), absent, named={"engine": ["eager", "trace"]}) == 5
    assert "NOT MEASURED: engine trace: trace is not here" in run.text
    assert run(absent) == 5


def test_a_gate_at_the_end_of_pytest_fails_the_run_though_every_case_was_measured(run):
    assert run(*map(a_test, NINE[:4]), faults={NINE[1]: "gate"}) == 1
    assert set(run.outcomes.values()) == {"measured"}
    assert f"FAILED: pytest ended with 1 though no test of {NINE[0]} to {NINE[2]} failed: a side is slower" in run.text


def test_no_two_files_of_results_share_a_journal_or_are_one():
    outs = [Path(name) for name in ("r.jsonl", "r-1.0", "r-1.1", "r.json")]
    assert all(out not in (journal_beside(out), logs_beside(out)) for out in outs)
    assert len({journal_beside(out) for out in outs}) == len({logs_beside(out) for out in outs}) == len(outs)


def test_of_a_cluster_too_nothing_of_what_was_named_is_5(monkeypatch, capsys, tmp_path):
    """The cases of one engine are measured, and those of the other are skipped on every node."""

    class Crew:
        def __init__(self, jobs):
            pass

        def node_of(self, worker):
            return "node"

        def close(self):
            pass

    class HandsOut:
        def __init__(self, crew, tell, *, is_watching):
            pass

        def ready(self):
            pass

        def run(self, pieces, keep):
            for piece in pieces:
                is_here = piece.name.endswith("eager")
                keep(
                    piece, "w", CaseResult(0 if is_here else 5, "1 passed" if is_here else "1 skipped: not here", None)
                )

    monkeypatch.setattr(command, "joined", lambda address: nullcontext(["node"]))
    monkeypatch.setitem(sys.modules, "harness.jobs.crews.ray_crew", SimpleNamespace(RayCrew=Crew))  # without ray
    monkeypatch.setattr("harness.jobs.crews.hand_out.HandOut", HandsOut)
    monkeypatch.setattr(command, "sweep_jobs", lambda nodes, most: [])
    names = [NINE[0], NINE[3]]
    pieces = [CasePiece(index, name, (), {}) for index, name in enumerate(names)]
    collected = found_of(*map(a_test, names), named={"engine": ["eager", "trace"]})
    assert command.sweep("here", pieces, tmp_path / "out.json", collected) == 5
    assert "NOT MEASURED: engine trace: 1 skipped: not here" in capsys.readouterr().err
    assert command.sweep("here", pieces, tmp_path / "out.json", found_of(*map(a_test, names))) == 0


def test_progress_says_how_far_it_is_and_about_how_long():
    now = [0.0]
    pace = Pace(dict.fromkeys(map(str, range(144)), 10.0), lambda: now[0])
    assert pace.begin("0") == "case 1 of 144: 0, about 24 min left"
    for case in range(6):
        pace.begin(str(case))
        now[0] += 17.4
        pace.end(str(case))
    assert pace.begin("6") == "case 7 of 144: 6, about 40 min left"
    unknown = Pace({"a": None, "b": None, "c": None}, lambda: now[0])
    assert unknown.begin("a") == "case 1 of 3: a, how long the rest takes is not known yet"
    now[0] += 30
    unknown.end("a")
    assert unknown.begin("b") == "case 2 of 3: b, about 60 s left"


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (2400, "40 min"), (7500, "2 h 5 min")])
def test_a_time_is_told_as_a_person_says_it(seconds, words):
    assert in_words(seconds) == words


def test_the_plan_says_what_runs_what_not_and_how_long():
    tests = [a_test(NINE[0]), a_test(NINE[1]), a_test(NINE[3], never="no"), a_test(NINE[6], expected_s=None)]
    tests += [a_test(NINE[4], gap="notyet: the kernel is missing"), a_test(NINE[5], lacks="needs images")]
    planned = plan_cases(found_of(*tests), {}, took_s={NINE[1]: 600.0}, resumes=False)
    text = "\n".join([*describe(planned), *describe_supervision(planned, None)])
    assert f"run {NINE[0]}: 1 tests, about 10 s by the durations asked for" in text
    assert f"run {NINE[1]}: 1 tests, about 10 min by an earlier run" in text
    assert f"run {NINE[6]}: 1 tests, of unknown length" in text
    assert "expected to fail: notyet: the kernel is missing" in text
    assert "unsupported 1: no" in text
    assert "skipped 1: needs images" in text
    assert "4 of 6 cases run: about 11 min, and 1 of unknown length\n3 processes" in text
    assert "1 cases have no deadline" in text
    assert [case.deadline_s(None) for case in planned if case.state is None] == [1800, 6000, 1800, None]
    assert planned[0].deadline_s(7.0) == 7.0


V2 = {"sys/fs/cgroup/a/memory.events": "oom 1\noom_kill 2\n", "proc/self/cgroup": "0::/a\n"}
V2_FULL = {
    **V2,
    "sys/fs/cgroup/a/memory.max": "1000\n",
    "sys/fs/cgroup/a/memory.current": "990\n",
    "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 20\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/a\n",
    "sys/fs/cgroup/memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "proc/vmstat": "nr_free 9\noom_kill 7\n",
    "proc/meminfo": "MemTotal: 200 kB\nMemAvailable: 50 kB\n",
}


@pytest.mark.parametrize(
    ("files", "reading"),
    [
        ({}, MemoryReading(None, None, None)),
        (V2, MemoryReading(2, None, None)),
        (V2_FULL, MemoryReading(2, None, 3.0)),
        (V1, MemoryReading(3, 7, 25.0)),
    ],
    ids=["none", "v2", "limit", "v1"],
)
def test_the_kernels_counters_are_read_of_both_versions_of_control_groups(tmp_path, files, reading):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_memory(tmp_path) == reading


def test_only_what_the_kernel_shows_is_evidence_of_want_of_memory():
    calm = MemoryReading(2, 5, 60.0)
    assert killed_for_memory(calm, calm, calm) is None
    assert "of its control group rose from 2 to 3" in killed_for_memory(calm, calm, MemoryReading(3, 5, 60.0))
    assert "of this machine rose from 5 to 6" in killed_for_memory(calm, calm, MemoryReading(2, 6, 60.0))
    assert "1.0% of the memory was left" in killed_for_memory(calm, MemoryReading(2, 5, 1.0), calm)
    unknown = MemoryReading(None, None, None)
    assert killed_for_memory(unknown, unknown, unknown) is None


@pytest.mark.parametrize(
    ("error", "text", "outcome"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        (
            "RuntimeError",
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory",
            "out_of_memory",
        ),
        ("RuntimeError", "std::bad_alloc", "out_of_memory"),
        ("MemoryError", "", "out_of_memory"),
        ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", "device_lost"),
        ("RuntimeError", "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", "device_lost"),
        ("WrongAnswers", "its memory format is out of memory order", "failed"),
        ("ValueError", "no such layer", "failed"),
    ],
)
def test_what_a_failed_test_says_is_typed(error, text, outcome):
    assert outcome_of_error(error, text) == outcome
    assert needs_new_process(error, text) == (outcome != "failed")


def test_a_context_that_is_spoilt_needs_a_new_process_and_is_a_failure():
    text = "CUDA error: an illegal memory access was encountered"
    assert outcome_of_error("RuntimeError", text) == "failed"
    assert needs_new_process("RuntimeError", text)


def test_a_kill_without_evidence_is_no_want_of_memory():
    assert outcome_of_ending(Ending(-9, "MemoryError")) == (
        "crashed: SIGKILL",
        "killed from outside, and nothing shows that memory was short",
    )
    assert outcome_of_ending(Ending(-9, "", memory="the kernel's count"))[0] == "out_of_memory"
    assert outcome_of_ending(Ending(139, ""))[0] == "crashed: SIGSEGV"
    assert outcome_of_ending(Ending(-11, "", hung_s=5.0))[0] == "timeout"
