"""Cores and threads as they are applied: on this machine, under taskset and a quota, and as the options say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.cores import allot, give_back_cores, started_on, take
from harness.host.cores import allotment as allotment_module
from selftests.inside import ROOT, TINY, Replacing, clean_environment, run_here

two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores and Linux"
)


@pytest.fixture
def put_back():
    """Whatever the process has before, it has afterwards."""
    before = allotment_module._taken
    yield
    take(before)


@two_cores
def test_a_library_does_not_inherit_a_main_thread_that_was_bound(put_back):
    cpus = os.sched_getaffinity(0)
    take(allot(cpus, threads=1))
    os.sched_setaffinity(0, {min(cpus)})  # as libgomp does
    give_back_cores()
    assert os.sched_getaffinity(0) == cpus


@two_cores
def test_a_process_has_its_cores_from_the_beginning():
    cpus = os.sched_getaffinity(0)
    asks = "import os; print(*os.sched_getaffinity(0))"
    with started_on([max(cpus)]):
        done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(max(cpus))]
    assert os.sched_getaffinity(0) == cpus


LATENCY = (
    *("tests_perf/test_latency.py", "--model", TINY, "--precision", "fp32", "--batch-size", "1", "--device", "cpu"),
    *("--telemetry", "off", "--benchmark-min-rounds", "2", "--benchmark-max-time", "0.01"),
)
# one of each kind: OpenMP, a pool of its own, TBB
ENGINES = "eager,onnxruntime,openvino"


def measured(path):
    """The record of the run's environment, and the threads of each engine."""
    kept = json.loads(path.read_text())
    rows = {row["extra_info"]["engine"]: row["extra_info"]["evidence"]["threads"] for row in kept["benchmarks"]}
    return kept["visionmark"]["environment"], rows


def under(prefix, path, *arguments, **variables):
    environment = {name: text for name, text in clean_environment().items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        [
            *prefix,
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *LATENCY,
            f"--benchmark-json={path}",
            *arguments,
        ],
        cwd=ROOT,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


@two_cores
@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_under_taskset_every_engine_has_the_threads_of_its_cores(tmp_path):
    path = tmp_path / "out.json"
    core = str(min(os.sched_getaffinity(0)))
    done = under(["taskset", "-c", core], path, "--engine", ENGINES)
    assert done.returncode == 0, done.stdout
    environment, rows = measured(path)
    assert environment["threads"]["usable_cores"] == [int(core)]
    assert environment["threads"]["intra_op"] == 1
    assert {engine: threads["intra_op"] for engine, threads in rows.items()} == dict.fromkeys(ENGINES.split(","), 1)
    assert rows["eager"]["openmp"] == 1


@pytest.mark.slow
@two_cores
def test_openmp_variables_do_not_shrink_the_machine(tmp_path):
    path = tmp_path / "out.json"
    variables = {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
    done = under([], path, "--engine", ENGINES, **variables)
    assert done.returncode == 0, done.stdout
    environment, rows = measured(path)
    cpus = sorted(os.sched_getaffinity(0))
    expected = allot(cpus).threads
    assert environment["threads"]["usable_cores"] == cpus
    assert environment["variables"].items() >= variables.items()
    assert {engine: threads["intra_op"] for engine, threads in rows.items()} == dict.fromkeys(
        ENGINES.split(","), expected
    )


@pytest.mark.slow
@two_cores
def test_cores_and_threads_are_applied_and_recorded(tmp_path):
    path = tmp_path / "out.json"
    last = max(os.sched_getaffinity(0))
    done = under([], path, "--engine", ENGINES, f"--cores={last}", "--threads=1")
    assert done.returncode == 0, done.stdout
    environment, rows = measured(path)
    assert environment["threads"]["usable_cores"] == [last]
    assert environment["threads"]["chosen_by"] == "--threads"
    assert {engine: threads["intra_op"] for engine, threads in rows.items()} == dict.fromkeys(ENGINES.split(","), 1)
    assert "threads: 1 (--threads)" in done.stdout


@pytest.mark.slow
def test_one_node_is_bound_with_its_memory_or_says_why_not(tmp_path):
    path = tmp_path / "out.json"
    done = under([], path, "--engine", "eager", "--socket-id=0")
    assert done.returncode == 0, done.stdout
    environment, _ = measured(path)
    assert environment["threads"]["numa_node"] == 0
    assert environment["threads"]["memory"].startswith(("bound to node 0", "not bound: "))
    assert environment["threads"]["memory"] in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cores", "4000"], "--cores 4000: this process may run on"),
        (["--cores", "two"], "'two' is no list of cores"),
        (["--numa-node", "4000"], "--numa-node 4000 has none of the cores"),
        (["--numa-node", "left"], "--numa-node 'left' is no number of a node"),
        (["--threads", "0"], "--threads '0' is no number of threads"),
    ],
)
def test_what_the_process_may_not_have_is_a_usage_error(arguments, words):
    outcome = run_here("--collect-only", *arguments)
    assert outcome.code == 4
    assert words in outcome.text


def test_cores_deny_a_variable_that_has_bound_threads_already(monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    outcome = run_here("--collect-only", "--cores", "0")
    assert outcome.code == 4
    assert "OMP_PROC_BIND=close has bound the threads of OpenMP already" in outcome.text


class OtherThreads(Replacing):
    """An engine that computes with another number of threads than the run has."""

    def __init__(self):
        from harness.engines import eager

        super().__init__("eager", self.build)
        self.eager = eager

    def supports(self, device, precision):
        return None

    def build(self, module, example, case, device, artefacts):
        import torch

        runner = self.eager.build(module, example, case, device, artefacts)
        torch.set_num_threads(3)
        return runner


def test_an_engine_with_another_number_of_threads_is_denied(put_back):
    outcome = run_here(*LATENCY, "--engine", "eager", "--threads", "2", plugin=OtherThreads())
    assert outcome.code == 1
    assert "the run is of 2 threads, but eager has 3" in outcome.text


def group_that_can_be_written():
    """A control group with a CPU quota that this process may set, None where there is none."""
    mounts = Path("/sys/fs/cgroup")
    for name in ("cpu.max", "cpu.cfs_quota_us", "cpu/cpu.cfs_quota_us"):
        path = mounts / name
        if path.exists() and os.access(path.parent, os.W_OK) and os.statvfs(path).f_flag & os.ST_RDONLY == 0:
            return path.parent
    return None


@pytest.mark.slow
@two_cores
def test_under_a_real_quota_the_threads_are_those_of_the_quota(tmp_path):
    """A group of its own with two CPUs less a half, so that any machine with two cores shows it."""
    parent = group_that_can_be_written()
    if parent is None:
        pytest.skip("no control group with a CPU quota can be written here")
    group = parent / f"visionmark-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            if (group / "cpu.max").exists():
                (group / "cpu.max").write_text("150000 100000")
            else:
                (group / "cpu.cfs_quota_us").write_text("150000")
        except OSError as error:
            pytest.skip(f"no CPU quota can be set here: {error}")
        path = tmp_path / "out.json"
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        done = under(["sh", "-c", enter, "sh"], path, "--engine", ENGINES)
        assert done.returncode == 0, done.stdout
        environment, rows = measured(path)
        assert environment["threads"]["quota_cpus"] == 1.5
        assert {engine: threads["intra_op"] for engine, threads in rows.items()} == dict.fromkeys(ENGINES.split(","), 1)
    finally:
        group.rmdir()


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--threads=1"], "threads: 1 (--threads)"), ([], "threads: 2 (OMP_NUM_THREADS)")]
)
def test_the_variable_gives_the_threads_where_the_option_does_not(monkeypatch, put_back, arguments, said):
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert said in run_here("--collect-only", *arguments).text
