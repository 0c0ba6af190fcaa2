"""A server that somebody else runs is left as it was: its models, their configurations, and what is ready."""

import time

import pytest

from harness.cases import Duration
from harness.proof import Contradiction
from harness.triton import control, repository
from harness.triton.clients import Traffic
from harness.triton.control import calling, is_ready, request_load
from harness.triton.host import Host, serve
from harness.triton.ports import LOOPBACK, reserve_port
from harness.triton.readings import served_config
from harness.triton.served import measure_served
from harness.triton.server import attach_server
from selftests.inside import TINY, run_here
from selftests.triton.test_answers import clock
from selftests.triton.tritons import attached_to, foreign, linear_model

TINY_NAME = "timm_test_efficientnet"
TESTS = ("tests_serial/tritonserver/test_single_model.py", "--model", TINY, "-k", "grpc-sync-1")


def ready_models(server):
    """The models that a server says are ready, in its own index."""
    with calling(server) as client:
        listed = client.get_model_repository_index(headers=server.token_header).models
    return sorted(entry.name for entry in listed if entry.state == "READY")


def host_of(server, tmp_path, served=None):
    """A host that is attached to a server, and serves a model on it."""
    return Host(lambda: server, None, 1, _server=server, _served=served)


@pytest.fixture(scope="module")
def theirs():
    with foreign() as server:
        yield server


def test_a_model_of_that_name_is_served_as_it_is_and_never_unloaded(theirs, tmp_path):
    (tmp_path / "theirs").mkdir()
    serve(linear_model(tmp_path / "theirs", name="production", max_batch=13), theirs)
    before, ready = served_config(theirs, "production"), ready_models(theirs)
    attached = attached_to(theirs)
    served = serve(linear_model(tmp_path, name="production"), attached)
    assert served.name == "production"
    assert served.evidence["supplied"]
    assert served.evidence["max_batch_size"] == 13
    assert measure_served(served, Traffic("http", "async", 4), Duration(0.1, None, 20), clock).rounds >= 20
    host_of(attached, tmp_path, served).close()
    assert served_config(theirs, "production") == before
    assert ready_models(theirs) == ready, "it was unloaded, or something was left loaded"


def test_ours_is_uploaded_under_a_name_of_its_own_and_unloaded(theirs, tmp_path):
    ready = ready_models(theirs)
    attached = attached_to(theirs)
    assert attached.repository is None and attached.pid is None
    served = serve(linear_model(tmp_path), attached)
    assert served.name.startswith("visionmark_linear_")
    assert not served.evidence["supplied"]
    assert served.evidence["session"]["engine"] == "onnxruntime"
    assert not list(theirs.repository.glob("*linear*"))
    assert measure_served(served, Traffic("http", "async", 4), Duration(0.1, None, 20), clock).rounds >= 20
    again = serve(linear_model(tmp_path), attached)
    assert again.name == served.name, "the first would be left loaded"
    assert attached_to(theirs).own_name("linear") != served.name, "two runs would share a name"
    host_of(attached, tmp_path, again).close()
    assert ready_models(theirs) == ready
    assert theirs.trouble() is None, "a server that somebody else runs was stopped"


def test_what_is_not_the_model_of_the_case_is_unloaded_again(theirs, tmp_path, monkeypatch):
    ready = ready_models(theirs)
    later = linear_model(tmp_path, name="refused")
    (tmp_path / "other").mkdir()
    other = linear_model(tmp_path / "other", name="refused", max_batch=9)
    (tmp_path / "other" / "model.onnx").write_bytes(other.artefact.file.read_bytes() + b"\x92\x03\x00")
    files = repository.ModelFiles.files
    monkeypatch.setattr(repository.ModelFiles, "files", lambda self, backend: files(other.artefact, backend))
    attached = attached_to(theirs)
    with pytest.raises(Contradiction, match="another ONNX file"):
        serve(later, attached)
    wait_until_not_ready(theirs, attached.own_name("refused"))
    assert ready_models(theirs) == ready


def test_an_upload_that_is_interrupted_is_taken_back(theirs, tmp_path, monkeypatch):
    ready = ready_models(theirs)
    attached = attached_to(theirs)

    def interrupted(server, name, *more):
        request_load(server, name, *more)
        raise KeyboardInterrupt

    monkeypatch.setattr(control, "request_load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        serve(linear_model(tmp_path, name="interrupted"), attached)
    wait_until_not_ready(theirs, attached.own_name("interrupted"))
    assert ready_models(theirs) == ready


def wait_until_not_ready(server, name):
    """Unloading was asked for, and is done a moment later."""
    until = time.monotonic() + 10
    while is_ready(server, name):
        assert time.monotonic() < until, f"{name} is still loaded"


def test_a_run_that_attaches_serves_what_is_there_and_leaves_it(tmp_path):
    """The folder that a first run kept is somebody's model of that name on a server of theirs."""
    with foreign(repository=tmp_path) as theirs:
        ports = [address.rpartition(":")[2] for address in vars(theirs.endpoint).values()]
        url = ("--triton-url", theirs.endpoint.http, "--grpc-port", ports[1], "--metrics-port", ports[2])
        kept = run_here(*TESTS, f"--model-repository={tmp_path}")
        assert kept.code == 0, kept.text
        both = ("-k", "grpc-sync-1 or shared_memory-sync-1", "-rs")  # the last -k counts
        ours = run_here(*TESTS, *url, *both)
        assert ours.code == 0 and "1 passed, 1 skipped" in ours.text, ours.text
        assert "memory is shared with a server that is started here" in ours.text
        assert ready_models(theirs) == [], "the model was left loaded"
        request_load(theirs, TINY_NAME)
        before = served_config(theirs, TINY_NAME)
        outcome = run_here(*TESTS, *url)
        assert outcome.code == 0 and "1 passed" in outcome.text, outcome.text
        assert ready_models(theirs) == [TINY_NAME]
        assert served_config(theirs, TINY_NAME) == before
        assert theirs.trouble() is None


def test_metrics_that_do_not_answer_are_told_in_the_row(theirs, tmp_path):
    http, grpc = (int(address.rpartition(":")[2]) for address in (theirs.endpoint.http, theirs.endpoint.grpc))
    attached = attach_server(LOOPBACK, http, grpc, reserve_port())
    served = serve(linear_model(tmp_path, name="unread"), attached)
    assert served.evidence["session"] is None
    assert "no metrics answer at" in served.evidence["session_missing"]
    assert "--metrics-port" in served.evidence["session_missing"]
    host_of(attached, tmp_path, served).close()
