"""Several processes in one window: what they add up to, and how each way of failing ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.artefacts import default_folder
from harness.cases import Case, Duration
from harness.host.cores import current
from harness.jobs import spawn
from harness.jobs.spawn import JobFailed, open_jobs
from harness.jobs.stream import BuildInputs, placements, stream_jobs
from harness.measure.stream_window import StreamRun
from harness.measure.streams import Streams
from models.catalog import find_spec, load_catalog
from selftests.inside import ROOT, TINY, clean_environment, run_here
from selftests.sabotage import Sabotaged

CASE = Case(TINY, "cpu", "fp32", 2, "eager", streams=2)
INPUTS = BuildInputs("random", default_folder())
LONG = Duration(min_s=60, max_s=None, min_rounds=1)


def spec(kind=None):
    row = find_spec(TINY, load_catalog())
    return row if kind is None else Sabotaged(row, kind)


def quiet(text):
    pass


def children():
    """Processes started from here, but for Python's own that looks after shared memory."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if one.is_running() and "resource_tracker" not in " ".join(one.cmdline())]


def test_replicas_are_devices_and_streams_share_one():
    case = Case("resnet18", "cuda", "fp16", 8, "eager", streams=2, replicas=2)
    assert str(case) == "resnet18-cuda-fp16-bs8-eager-x2-r2"
    assert [str(one) for one in placements(case)] == [f"resnet18-cuda:{index}-fp16-bs8-eager" for index in (0, 0, 1, 1)]


def test_the_whole_is_all_images_over_the_common_wall_time():
    runs = [StreamRun("stream 1", [0.125] * 16, 10.0, 12.0, 5), StreamRun("stream 2", [0.35] * 10, 10.5, 14.0, 3)]
    whole = Streams.of(runs, batch_size=8)
    assert whole.wall_s == 4.0
    assert whole.images == 26 * 8
    assert whole.images_per_second == 26 * 8 / 4.0
    assert whole.images_per_second_low < whole.images_per_second < whole.images_per_second_high
    assert sum(one["images_per_second"] for one in whole.each) == whole.images_per_second
    assert whole.mean_ms == pytest.approx(5500 / 26)
    assert whole.each[0]["stdev_ms"] == 0
    assert whole.untimed_rounds == 3


def test_a_window_of_few_requests_has_no_rate_but_says_what_is_missing():
    runs = [StreamRun("stream 1", [1.0, 1.0], 10.0, 12.0), StreamRun("stream 2", [3.5], 10.5, 14.0)]
    whole = Streams.of(runs, batch_size=8)
    assert whole.images_per_second is whole.each[0]["images_per_second"] is None
    assert whole.missing_windows == whole.each[0]["missing_windows"] == 4
    assert whole.images == 24


def test_the_time_between_two_requests_is_no_slow_end_of_the_window():
    """A stream without any variation, of 1 ms requests, which looks for 0.1 ms after each whether it is done."""
    runs = [StreamRun(f"stream {at}", [0.001] * 1000, 10.0, 11.1) for at in (1, 2)]
    whole = Streams.of(runs, 1)
    assert whole.min_images_per_second == pytest.approx(whole.images_per_second, rel=0.01)
    assert whole.images_per_second_high - whole.images_per_second_low < 0.01 * whole.images_per_second


def test_the_row_of_streams_has_the_worst_of_them():
    calm = StreamRun("stream 1", [0.1] * 30, 10.0, 13.0, 5, runqueue_wait_pct=1.0)
    held = StreamRun("stream 2", [0.1] * 15 + [0.2] * 15, 10.0, 14.5, 0, runqueue_wait_pct=40.0)
    whole = Streams.of([calm, held], batch_size=1)
    assert whole.untimed_rounds == 0
    assert whole.slope_pct == pytest.approx(100)
    assert whole.runqueue_wait_pct == 40.0


def test_two_streams_run_in_one_window_and_add_up(tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here(
        *("tests_perf", "tests_accuracy", "--streams", "2", "--model", TINY, "--engine", "eager", "--batch-size", "2"),
        *("--precision", "fp32", "--device", "cpu", f"--benchmark-json={path}", "--min-test-duration", "1"),
        *("--max-test-duration", "2"),
    )
    assert outcome.code == 0, outcome.text
    rows = {row["extra_info"]["measurement"]: row["extra_info"] for row in json.loads(path.read_text())["benchmarks"]}
    assert rows.keys() == {"streams", "parity"}, "what measures one process says nothing of two"
    assert rows["parity"]["case"] == f"{TINY}-cpu-fp32-bs2-eager"
    row = rows["streams"]
    assert row["case"] == f"{TINY}-cpu-fp32-bs2-eager-x2"
    assert row["streams"] == row["processes"] == 2
    assert row["images_per_second"] == pytest.approx(row["images"] / row["wall_s"])
    assert sum(one["images"] for one in row["each"]) == row["images"]
    assert sum(one["rounds"] for one in row["each"]) == row["rounds"]
    assert all(one["rounds"] > 1 for one in row["each"])
    batch_s = row["max_ms"] / 1e3  # durations are kept to within one batch
    assert 1 - batch_s <= row["wall_s"] < 2 + batch_s
    here = current()
    assert [one["threads"]["intra_op"] for one in row["each_prepared"]] == [max(1, here.threads // 2)] * 2
    first, second = (set(one["cores"]) for one in row["each_prepared"])
    assert len(here.cores) == 1 or not first & second
    assert row["cores"] == sorted(first | second)
    assert row["evidence"]["engine"] == "eager"
    assert not children()


def test_a_stream_that_is_killed_in_the_window_ends_the_test_with_its_name():
    began = time.monotonic()
    with (
        pytest.raises(JobFailed, match=r"stream 2 was killed by SIGKILL \(pid \d+\)"),
        open_jobs(stream_jobs(CASE, spec(), INPUTS), quiet) as streams,
    ):
        victim = streams.pids[1]
        threading.Timer(0.5, os.kill, (victim, signal.SIGKILL)).start()
        began = time.monotonic()
        streams.run(LONG)
    assert time.monotonic() - began < 15
    assert not children()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("hangs", r"stream 1 hangs: it has completed nothing(.|\n)*sabotage.py.* in misbehave"),
        ("raises", r"stream 1 failed:\nTraceback(.|\n)*fallen off the bus"),
    ],
)
def test_a_stream_that_fails_is_named_with_its_traceback(monkeypatch, kind, words):
    monkeypatch.setattr(spawn, "HANGS_AFTER_S", 1.0)
    monkeypatch.setattr(spawn, "HANGS_AFTER_STEPS", 2)
    with (
        pytest.raises(JobFailed, match=words),
        open_jobs(stream_jobs(CASE.alone(), spec(kind), INPUTS), quiet) as streams,
    ):
        streams.run(LONG)
    assert not children()


def test_replicas_of_one_cpu_are_a_usage_error():
    outcome = run_here("--replicas", "2", "--device", "cpu", "--model", TINY)
    assert outcome.code == 4
    assert "for one device use --streams" in outcome.text


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.killpg, signal.SIGINT, 2),
        pytest.param(os.kill, signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_no_stream(tmp_path, send, number, code):
    """Ctrl-C goes to every process of a terminal, and SIGTERM to the first of a container."""
    arguments = ["tests_perf/test_streams.py", "--streams", "2", "--model", TINY, "--engine", "eager"]
    arguments += ["--precision", "fp32", "--batch-size", "2", "--device", "cpu", "--min-test-duration", "120"]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env=clean_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = wait_for(lambda: running_streams(psutil.Process(run.pid)), 120)
    send(run.pid, number)
    assert run.wait(30) == code, Path(log.name).read_text()
    _, alive = psutil.wait_procs(found, timeout=10)
    assert not alive


STARTER = """
import os, subprocess, sys, time
child = (
    f"from harness.host.parent_death import die_with_starter; die_with_starter({os.getpid()});"
    "print('here', flush=True); import time; time.sleep(60)"
)
one = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
one.stdout.readline()
print(one.pid, flush=True)
time.sleep(60)
"""


def test_a_process_that_dies_with_its_starter_ends_where_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", STARTER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        child = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def running_streams(process):
    """The two streams, once both have used a second of processor time."""
    streams = [one for one in process.children() if "spawn_main" in " ".join(command_of(one))]
    return streams if len(streams) == 2 and all(sum(one.cpu_times()[:2]) > 1 for one in streams) else None


def command_of(process):
    """The words of a process's command; none if it has ended since it was listed."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")
