"""Faults of a server and its models, made to happen: each ends soon, with the reason, and nothing of it is measured."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.artefacts import ArtefactCache
from harness.cases import Duration
from harness.triton import closed_loop as load_module
from harness.triton import guard
from harness.triton.clients import ASYNC, MODES, PROTOCOLS, SYNC, Target, Traffic
from harness.triton.closed_loop import Clients, RequestsFailed
from harness.triton.control import ModelNotServed, NoBackend, is_ready, load_model, request_load
from harness.triton.host import Host, serve
from harness.triton.ports import LOOPBACK, reserve_port
from harness.triton.process import ServerFailed
from harness.triton.repository import CONFIG, RepositoryError, write_model
from harness.triton.served import measure_served
from selftests.inside import ROOT, TINY, clean_environment, run_here
from selftests.triton.test_answers import clock, sabotage
from selftests.triton.tritons import installation_or_skip, left_behind, linear_model, running, wait_until_gone

OURS = f"visionmark_{os.getpid()}_"
LONG = Duration(60.0, None, 1)


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


def stubs_of(server):
    """Pids of its backend processes."""
    return [
        int(line.partition(":")[0])
        for line in left_behind(server.shared_memory_prefix)
        if "triton_python_backend_stub" in line
    ]


def kill_soon(pids, after_s=0.4):
    timer = threading.Timer(after_s, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
    timer.start()
    return timer


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", MODES)
def test_a_server_killed_under_load_fails_it_within_seconds(tmp_path, protocol, mode):
    with running() as server:
        served = serve(linear_model(tmp_path), server)
        kill_soon([server.pid])
        began = time.monotonic()
        with pytest.raises(RequestsFailed, match=r"(?s)[1-4] of \d+ requests failed.*was ended by SIGKILL"):
            measure_served(served, Traffic(protocol, mode, 4), LONG, clock)
        assert time.monotonic() - began < 0.4 + 5
        assert wait_until_gone(server.shared_memory_prefix) == []


def test_a_backend_killed_under_load_fails_it_and_a_reload_restores_service(tmp_path):
    with running() as server:
        exported = linear_model(tmp_path)
        served = serve(exported, server)
        kill_soon(stubs_of(server))
        began = time.monotonic()
        with pytest.raises(RequestsFailed, match=r"of \d+ requests failed: [1-4] times: .*is not healthy"):
            measure_served(served, Traffic("grpc", "sync", 4), LONG, clock)
        assert time.monotonic() - began < 0.4 + 5
        assert is_ready(server, served.name), "if this fails, the server now tells, and may be believed"
        again = measure_served(serve(exported, server), Traffic("grpc", "sync", 4), Duration(0.1, None, 20), clock)
        assert again.rounds >= 20


def test_a_model_that_does_not_load_says_why_and_others_load(server, tmp_path):
    exported = linear_model(tmp_path, name="broken")
    whole = exported.artefact.file.read_bytes()
    exported.artefact.file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelNotServed, match=r"did not load 'broken'.*(?i:protobuf|invalid)"):
        load_model(server, exported.artefact)
    (tmp_path / "sound").mkdir()
    assert load_model(server, linear_model(tmp_path / "sound", name="sound").artefact).backend == "python"


def test_a_file_that_no_backend_of_the_server_runs_is_told(server, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    artefact = linear_model(tmp_path, name="script", file=tmp_path / "model.pt").artefact
    with pytest.raises(NoBackend, match="no backend for model.pt: none of pytorch"):
        load_model(server, artefact)


def test_a_traced_model_is_a_skip_where_the_server_has_no_backend_for_it():
    installation_or_skip()
    arguments = ("--model", TINY, "--engine", "trace", "-k", "grpc-sync-1", "--benchmark_only=true")
    outcome = run_here("tests_serial/tritonserver", *arguments)
    assert outcome.code == 5, outcome.text
    assert "no backend for model.pt: none of pytorch" in outcome.text
    assert "passed" not in outcome.text


def test_a_configuration_with_a_mistake_is_refused(server, tmp_path):
    exported = linear_model(tmp_path, name="mistaken")
    folder = write_model(server.repository, exported.artefact, "python")
    (folder / CONFIG).write_text("name: 'mistaken'\nno_such_field: 1\n")
    with pytest.raises(ModelNotServed, match="failed to poll from model repository"):
        request_load(server, "mistaken")


def test_a_model_that_is_not_there_is_refused(server):
    with pytest.raises(ModelNotServed, match="did not load 'absent'"):
        request_load(server, "absent")


def test_a_missing_model_file_hangs_the_load_and_the_deadline_ends_it(tmp_path):
    """Such a load never ends, and such a server does not end when asked to: it is given up, and the next is fresh."""
    with running() as server:
        exported = linear_model(tmp_path)
        folder = write_model(server.repository, exported.artefact, "python")
        (folder / "1" / "model.py").unlink()
        began = time.monotonic()
        with pytest.raises(ServerFailed, match="did not end within 2 s .*given up"):
            request_load(server, exported.artefact.name, deadline_s=2)
        assert time.monotonic() - began < 4
        assert "given up" in server.trouble()
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 4
        assert left_behind(server.shared_memory_prefix) == []


def test_a_host_whose_server_has_died_opens_a_fresh_one(tmp_path):
    opened = []

    def start():
        context = running()
        opened.append(context)
        return context.__enter__()

    host = Host(start, ArtefactCache(tmp_path), 1)
    first = host.server()
    assert host.server() is first
    os.kill(first.pid, signal.SIGKILL)
    first.trouble(patience_s=2)
    second = host.server()
    assert second is not first
    assert second.trouble() is None
    host.close()
    for context in opened:
        context.__exit__(None, None, None)


def test_a_full_disk_is_told_with_the_way_out(tmp_path):
    """/dev/full is a file on which every write finds the disk full."""
    exported = linear_model(tmp_path)
    repository = tmp_path / "repository"
    (repository / "linear").mkdir(parents=True)
    (repository / "linear" / "labels.txt").symlink_to("/dev/full")
    with pytest.raises(RepositoryError, match=r"No space left on device.*--model-repository DIR"):
        write_model(repository, exported.artefact, "python")


def test_a_request_that_takes_too_long_is_a_failure(server, tmp_path, monkeypatch):
    sabotage(tmp_path, monkeypatch, "        responses = []", "        import time; time.sleep(3); responses = []")
    artefact = linear_model(tmp_path, name="slow").artefact
    load_model(server, artefact)
    exported = linear_model(tmp_path, name="slow")
    for protocol in PROTOCOLS:
        for mode in MODES:
            table = SYNC if mode == "sync" else ASYNC
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(table, protocol, lambda e, t, opener=table[protocol]: opener(e, t, 0.3))
                began = time.monotonic()
                with (
                    Clients(Traffic(protocol, mode, 1), server, Target("slow"), exported.batches) as clients,
                    pytest.raises(RequestsFailed, match=r"(?i)1 of 1 requests failed.*(deadline|timed? ?out)"),
                ):
                    clients.run(lambda sent, s: sent < 1)
                assert time.monotonic() - began < 2


SERVE_TINY = (
    *("tests_serial/tritonserver/test_single_model.py", "--model", TINY, "--max-test-duration", "0.3"),
    *("-k", "grpc-sync-1 or grpc-sync-4"),
)


class Kills:
    """A plugin that kills the first server, or its first backend process, in the middle of its first load."""

    def __init__(self, mark):
        self.mark = mark
        self.killed = []
        self.others = left_behind(OURS)  # servers of this module's own

    def pytest_configure(self, config):
        self.before = load_module.Feed.next

        def next_and_kill(feed):
            number = self.before(feed)
            if number == 5 and not self.killed:
                of_the_run = [line for line in left_behind(OURS) if line not in self.others]
                self.killed.extend(line for line in of_the_run if self.mark in line and guard.__file__ not in line)
                assert len(self.killed) == 1
                os.kill(int(self.killed[0].partition(":")[0]), signal.SIGKILL)
            return number

        load_module.Feed.next = next_and_kill

    def pytest_unconfigure(self, config):
        load_module.Feed.next = self.before


@pytest.mark.parametrize(
    ("mark", "words"),
    [("/bin/tritonserver --", "was ended by SIGKILL"), ("triton_python_backend_stub ", "is not healthy")],
    ids=["server", "backend"],
)
def test_in_a_run_the_test_fails_with_the_reason_and_the_next_is_served_again(tmp_path, mark, words):
    installation_or_skip()
    path = tmp_path / "out.json"
    plugin = Kills(mark)
    outcome = run_here(*SERVE_TINY, f"--benchmark-json={path}", plugin=plugin)
    assert outcome.code == 1, outcome.text
    assert "1 failed, 1 passed" in outcome.text, outcome.text
    assert words in outcome.text
    kept = json.loads(path.read_text())["benchmarks"]
    assert [benchmark["extra_info"]["clients"] for benchmark in kept] == [4], "the failed load was kept"
    assert set(left_behind(OURS)) <= set(plugin.others)


def test_a_model_repository_is_kept_and_a_port_that_was_asked_for_is_used(tmp_path):
    installation_or_skip()
    port = reserve_port()
    outcome = run_here(*SERVE_TINY[:-1], "grpc-sync-1", f"--model-repository={tmp_path}", f"--grpc-port={port}")
    assert outcome.code == 0, outcome.text
    folder = tmp_path / "timm_test_efficientnet"
    assert {path.name for path in folder.iterdir()} == {"1", CONFIG, "labels.txt", "visionmark.json"}
    assert (folder / "1" / "model.onnx").stat().st_size > 1e6
    assert len((folder / "labels.txt").read_text().split()) == 1000


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 2, "KeyboardInterrupt"),
        pytest.param(signal.SIGTERM, 143, "SIGTERM: the run is stopped", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_leaves_nothing_and_keeps_the_numbers_it_has(tmp_path, number, code, words):
    """Ctrl-C, or a scheduler's signal, in the middle of the second load."""
    installation_or_skip()
    path = tmp_path / "out.json"
    run = subprocess.Popen(
        [sys.executable, "-u", "-m", "pytest", *SERVE_TINY[:3], *SERVE_TINY[-2:], "-v", f"--benchmark-json={path}"]
        + ["--min-test-duration=4"],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell's background job ignores Ctrl-C, and its children with it, unless they are told otherwise
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    prefix = f"visionmark_{run.pid}_"
    first = next((line for line in run.stdout if "PASSED" in line), "")
    assert "grpc-sync-1" in first
    assert any(line.startswith("/dev/shm") for line in left_behind(prefix)), "nothing was there to leave behind"
    time.sleep(1.5)
    run.send_signal(number)
    text = run.communicate(timeout=30)[0]
    assert run.returncode == code, text
    assert words in text
    assert [one["extra_info"]["clients"] for one in json.loads(path.read_text())["benchmarks"]] == [1]
    assert left_behind(prefix) == []


def test_what_was_asked_for_by_name_and_is_not_there_is_a_usage_error(tmp_path):
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = {
            ("--triton-server", str(tmp_path / "none")): "no tritonserver at",
            ("--triton-url", f"{LOOPBACK}:{port + 1 if port < 65535 else port - 1}"): "no Triton server is live",
            ("--triton-url", "not a url"): "no HOST:PORT",
            ("--grpc-port", str(port)): "in use",
            ("--metrics-port", str(port)): "--metrics-port: port .* in use",
            ("--grpc-port", "many"): "no whole number",
            ("--model-repository", __file__): "give a folder",
            ("--benchmark_only", "perhaps"): "neither true nor false",
        }
        for arguments, words in cases.items():
            outcome = run_here("tests_serial", *arguments, "--collect-only", "-q")
            assert outcome.code == 4, (arguments, outcome.text)
            assert re.search(words, outcome.text), (arguments, outcome.text)


def test_without_a_server_the_serving_tests_skip_with_the_reason(tmp_path, monkeypatch):
    from harness.triton import installation

    monkeypatch.setattr(installation, "ENVIRONMENT", "no-such-environment")
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run_here("tests_serial", "--model", TINY, "-k", "grpc-sync-1")
    assert outcome.code == 5
    assert "make setup-triton" in outcome.text
    assert "passed" not in outcome.text


def collected(*arguments):
    return run_here("tests_serial/tritonserver", *arguments, "--collect-only", "-q")


def test_benchmark_only_runs_loads_alone_and_false_means_false():
    only, everything = (collected("--model", TINY, f"--benchmark_only={value}").text for value in ("true", "false"))
    assert "test_single_model[" in only
    assert "test_answers[" not in only
    assert "deselected" in only
    assert "test_answers[" in everything


def test_the_commands_of_the_document_select_the_model_they_name():
    outcome = collected("--device", "cpu", "--benchmark_only=true", "-k", "test_single_model[resnet50-")
    assert outcome.code == 0, outcome.text
    assert outcome.text.count("test_single_model[resnet50-cpu-fp32-bs1-onnxruntime-") == 15
    assert "efficientnet" not in outcome.text
