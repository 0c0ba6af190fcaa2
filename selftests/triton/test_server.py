"""A server starts on ports of its own, says so only when it is true, and leaves nothing behind however it ends."""

import os
import platform
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from harness.triton import guard as guard_module
from harness.triton import server as server_module
from harness.triton.control import calling
from harness.triton.host import serve
from harness.triton.installation import (
    Installation,
    NoServer,
    UntrustworthyServer,
    describe_installation,
    find_installation,
    require_trustworthy,
)
from harness.triton.ports import LOOPBACK, PortTaken, listening_ports, require_free, reserve_port
from harness.triton.process import Process, ServerFailed
from harness.triton.served import ask_first
from harness.triton.server import attach_server, is_live, start_server
from selftests.inside import ROOT
from selftests.triton.tritons import installation_or_skip, left_behind, linear_model, running, wait_until_gone


def port_of(address):
    return int(address.rpartition(":")[2])


def test_a_started_server_listens_on_the_loopback_alone_and_on_three_ports():
    with running() as server:
        endpoint = server.endpoint
        ports = {port_of(address) for address in (endpoint.http, endpoint.grpc, endpoint.metrics)}
        assert listening_ports(server.pid) == ports
        listed = "".join(Path(f"/proc/{server.pid}/net/{table}").read_text() for table in ("tcp", "tcp6"))
        for port in ports:
            listeners = re.findall(rf"\d+: (\w+):{port:04X} \w+:\w+ 0A", listed)
            assert listeners in (["0100007F"], ["0000000000000000FFFF00000100007F"]), "127.0.0.1, byte order of x86"
        assert is_live(endpoint.http)
        assert server.started_s is not None


def answer_to(server, path, **headers):
    """The status of an HTTP request that anybody on this machine could send."""
    request = urllib.request.Request(f"http://{server.endpoint.http}{path}", b"{}", headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_who_lacks_the_token_of_the_run_loads_nothing_and_maps_nothing(tmp_path):
    """A load request may bring a Python model along, and so run code as the user who started the server."""
    import tritonclient.grpc as module
    from tritonclient.utils import InferenceServerException

    with running() as server:
        served = serve(linear_model(tmp_path), server)
        paths = (
            *("/v2/repository/index", "/v2/repository/models/linear/load", "/v2/repository/models/linear/unload"),
            *("/v2/systemsharedmemory/unregister", "/v2/logging", "/v2/trace/setting"),
        )
        wrong = {server_module.TOKEN_HEADER: "0" * 32}
        assert {path: answer_to(server, path) for path in paths} == dict.fromkeys(paths, 403)
        assert {path: answer_to(server, path, **wrong) for path in paths} == dict.fromkeys(paths, 403)
        stranger = module.InferenceServerClient(server.endpoint.grpc)
        calls = (
            lambda: stranger.load_model("linear"),
            lambda: stranger.unload_model("linear"),
            stranger.get_model_repository_index,
            stranger.unregister_system_shared_memory,
            lambda: stranger.update_log_settings({"log_verbose_level": 1}),
            stranger.update_trace_settings,
        )
        for call in calls:
            with pytest.raises(InferenceServerException, match=r"(?i)restricted"):
                call()
        stranger.close()
        (token,) = server.token_header.values()
        assert answer_to(server, "/v2/repository/index", **{server_module.TOKEN_HEADER: token}) == 200
        with calling(server) as client:
            assert client.get_model_repository_index(headers=server.token_header).models[0].state == "READY"
        assert served.require_own_answers(ask_first(served)) > 60, "a refused request did something"


def test_the_token_is_not_in_the_list_of_processes():
    """Every user may read the arguments of every process."""
    with running() as server:
        (token,) = server.token_header.values()
        listed = left_behind(server.shared_memory_prefix)
        assert any("tritonserver" in line for line in listed) and any("guard.py" in line for line in listed)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended
                assert token.encode() not in entry.read_bytes()


def test_two_servers_have_two_tokens():
    with running() as first, running() as second:
        assert first.token_header != second.token_header


def test_twenty_starts_and_stops_leave_nothing(tmp_path):
    installation = installation_or_skip()
    serving = require_trustworthy(installation)
    exported = linear_model(tmp_path)
    for turn in range(20):
        scratch = tmp_path / str(turn)
        scratch.mkdir()
        server = start_server(installation, serving, scratch)
        if turn % 4 == 0:
            serve(exported, server)
        server.stop(fast=turn % 5 != 0)
        assert left_behind(server.shared_memory_prefix) == []
        assert not scratch.exists()
        assert not is_live(server.endpoint.http)
        assert server.exit_code == (0 if turn % 5 == 0 else 128 + signal.SIGKILL)


SERVES = """
    import sys, tempfile, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from harness.triton.host import serve
    from selftests.triton.tritons import linear_model, running
    with tempfile.TemporaryDirectory() as folder, running() as server:
        serve(linear_model(folder), server)
        print(server.shared_memory_prefix, server.pid, server.repository, server.endpoint.http, flush=True)
        server.trouble(patience_s=60)
"""


@pytest.mark.parametrize("victim", ["tests", "server", "guard"])
def test_a_kill_leaves_nothing(victim):
    """Of the process that tests, the server, or the guard: no process, port, shared memory or scratch folder."""
    installation_or_skip()
    tests = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVES.format(root=str(ROOT)))], stdout=subprocess.PIPE, text=True
    )
    prefix, pid, repository, http = tests.stdout.readline().split()
    running_now = left_behind(prefix)
    guard = next(int(line.partition(":")[0]) for line in running_now if "guard.py" in line)
    assert any("triton_python_backend_stub" in line for line in running_now), "no stub was there to leave behind"
    assert any(line.startswith("/dev/shm/") for line in running_now), "no shared memory was there to leave behind"
    os.kill({"tests": tests.pid, "server": int(pid), "guard": guard}[victim], signal.SIGKILL)
    assert wait_until_gone(prefix) == []
    assert not is_live(http)
    tests.wait(20)
    assert not Path(repository).parent.exists()


STARTS_A_GUARD = """
    import subprocess, sys
    guard, *rest = sys.argv[1:]
    starter = subprocess.Popen([sys.executable, "-c", ""])
    starter.wait()
    print(subprocess.run([sys.executable, "-I", "-S", guard, str({starter}), *rest]).returncode)
"""


@pytest.mark.parametrize("starter", ["starter.pid", "1"], ids=["gone", "another"])
def test_a_guard_whose_starter_is_gone_starts_nothing_and_cleans_up(tmp_path, starter):
    """A starter that was killed while its guard was starting; or whose pid is meanwhile another process's."""
    scratch, touched = tmp_path / "scratch", tmp_path / "touched"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STARTS_A_GUARD.format(starter=starter)), guard_module.__file__]
        + ["visionmark_none_", str(scratch), "--", "touch", str(touched)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "1\n", done.stderr
    assert "has ended" in done.stderr
    assert not touched.exists(), "it was started with nobody to watch"
    assert not scratch.exists()


def test_a_server_that_ends_by_itself_while_it_is_being_killed_is_no_error(tmp_path, monkeypatch):
    """It is seen to run, and is gone when the signal is sent."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = Process(["true"], {}, f"visionmark_{os.getpid()}_none_", tmp_path / "log", scratch)
    assert process.how_it_ended() == "ended by itself with exit code 0"
    monkeypatch.setattr(Process, "is_running", lambda self: True)
    assert process.stop(fast=True) == 0
    assert not scratch.exists()


def test_a_port_is_handed_to_nobody_else_while_it_is_reserved():
    reserved = reserve_port()
    handed_out = set()
    for _ in range(2000):
        with socket.socket() as other:
            other.bind((LOOPBACK, 0))
            handed_out.add(other.getsockname()[1])
    assert reserved not in handed_out
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind((LOOPBACK, reserved))  # reserved indeed: only who names it with SO_REUSEADDR may have it
    assert require_free(reserved) == reserved


def test_a_port_that_was_asked_for_is_used_or_refused():
    with running(grpc_port=reserve_port()) as server, pytest.raises(PortTaken, match="give another one"):
        require_free(port_of(server.endpoint.grpc))


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path, monkeypatch):
    """The other one answers that it is ready: only our own process listening there counts."""
    installation = installation_or_skip()
    with running() as other:
        taken = iter([port_of(other.endpoint.http), reserve_port(), reserve_port()])
        monkeypatch.setattr(server_module, "reserve_port", lambda: next(taken))
        began = time.monotonic()
        with pytest.raises(ServerFailed, match="already in use"):
            start_server(installation, require_trustworthy(installation), tmp_path)
        assert time.monotonic() - began < 8
        assert other.trouble() is None


def test_a_server_that_died_after_it_was_ready_says_how():
    with running() as server:
        assert server.trouble() is None
        os.kill(server.pid, signal.SIGKILL)
        assert "was ended by SIGKILL" in server.trouble(patience_s=2)
        with pytest.raises(ServerFailed, match="Started HTTPService"):
            server.require_usable()


def test_numpy_2_with_a_stub_of_before_is_refused():
    """This process's own environment has numpy 2, and the wheel's stub reads zeros out of its arrays."""
    installation = installation_or_skip()
    if installation.python is None:
        pytest.skip("the server that was found is not of the wheel")
    wrong = Installation(
        installation.binary, installation.backends, installation.caches, installation.stub, sys.executable
    )
    with pytest.raises(UntrustworthyServer, match="read zeros and answer zeros without an error"):
        require_trustworthy(wrong)


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("machine", "aarch64", "not Linux aarch64"),
        ("system", "Darwin", "not Darwin"),
        ("libc_ver", ("glibc", "2.34"), "needs glibc 2.35, not 2.34"),
    ],
)
def test_where_no_server_can_be_installed_the_reason_says_so(tmp_path, monkeypatch, what, value, words):
    for name, here in (("machine", "x86_64"), ("system", "Linux"), ("libc_ver", ("glibc", "2.36"))):
        monkeypatch.setattr(platform, name, lambda given=value if name == what else here: given)
    with pytest.raises(NoServer, match=words):
        find_installation(None, tmp_path, {"PATH": str(tmp_path)})


def test_no_server_is_a_reason_with_the_way_out(tmp_path):
    with pytest.raises(NoServer, match="make setup-triton"):
        find_installation(None, tmp_path, {"PATH": str(tmp_path)})
    with pytest.raises(NoServer, match="no tritonserver at"):
        find_installation(tmp_path / "absent", tmp_path)
    plain = tmp_path / "tritonserver"
    plain.touch()
    with pytest.raises(NoServer, match="no program"):
        describe_installation(plain)


def test_a_program_that_is_no_server_fails_with_its_own_words(tmp_path):
    false = tmp_path / "bin" / "tritonserver"
    false.parent.mkdir()
    false.write_text("#!/bin/sh\necho I am no server\nexit 3\n")
    false.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ServerFailed, match="exit code 3\nI am no server"):
        start_server(describe_installation(false), None, scratch)


def test_nobody_at_the_url_is_an_error():
    with pytest.raises(ServerFailed, match="no Triton server is live"):
        attach_server(LOOPBACK, reserve_port(), reserve_port(), reserve_port())
