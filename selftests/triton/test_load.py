"""Open loops, the second opinion, overhead and shared memory: what they claim to measure is what they do."""

import errno
import os
import signal
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harness.cases import PRECISIONS, Duration
from harness.host.pressure import read_threads
from harness.triton import cross_check, perf_analyzer, photographs, repository
from harness.triton.clients import Target, Traffic
from harness.triton.closed_loop import RequestsFailed
from harness.triton.cross_check import LEAST_PAIRS, PAIRS, Disagreement, compare, require_no_disagreement, verdict_of
from harness.triton.host import serve
from harness.triton.mistakes import MISTAKES, label_of
from harness.triton.open_loop import OpenLoop, TooFast, find_highest_rate, is_behind, measure_open_loop
from harness.triton.overhead import IN_PROCESS, SERVED_WAYS, measure_overhead
from harness.triton.perf_analyzer import NoMeasurement, NoPerfAnalyzer, Opinion, ask_perf_analyzer, find_perf_analyzer
from harness.triton.served import Served, measure_served
from harness.triton.shared_memory import SharedMemoryClient
from harness.triton.turns import ADDS, CANNOT_TELL, SAVES
from models.tasks import WrongAnswers
from selftests.inside import ROOT, TINY, run_here
from selftests.triton.test_answers import RUN, STALE, changed, clock, sabotage
from selftests.triton.tritons import attached_to, installation_or_skip, linear_model, running


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def linear(server, tmp_path_factory):
    return serve(linear_model(tmp_path_factory.mktemp("linear")), server)


def test_an_open_loop_sends_at_its_rate_whatever_the_answers_do(linear, tmp_path):
    measured = measure_open_loop(linear, 200.0, Duration(1.0, None, 1), tmp_path, clock)
    assert measured.rounds == pytest.approx(200, rel=0.35), "a Poisson process of 200 a second, for one second"
    assert measured.images_per_second == pytest.approx(200, rel=0.35)
    assert measured.answers_sqnr_db > measured.sqnr_floor_db == PRECISIONS["fp32"].sqnr_floor_db
    assert measured.p90_ms is not None and measured.p99_ms is None and measured.p99_missing_rounds > 0
    assert Path(measured.logs, "mlperf_log_detail.txt").exists()


def test_time_that_requests_wait_behind_a_slow_one_counts(server, tmp_path, monkeypatch):
    """One answer takes half a second. A closed loop of one client sees one slow request: all others wait to be sent."""
    stall = "import time; self._n = getattr(self, '_n', 0) + 1; time.sleep(0.5 * (self._n == 60)); "
    sabotage(tmp_path, monkeypatch, RUN, stall + RUN)
    slow = serve(linear_model(tmp_path, name="stalls"), server)
    closed = measure_served(slow, Traffic("grpc", "sync", 1), Duration(0.5, None, 100), clock)
    assert sorted(closed.rounds_ms)[-2] < 400, "another request than the slow one was counted as slow as that"
    again = serve(linear_model(tmp_path, name="stalls_too"), server)
    opened = measure_open_loop(again, 100.0, Duration(1.5, None, 1), tmp_path / "logs", clock)
    assert opened.max_ms > 400
    assert opened.mean_ms * opened.rounds > 3 * 500, "only the slow request itself was counted as slow"


def test_wrong_answers_of_an_open_loop_ring(server, tmp_path, monkeypatch):
    sabotage(tmp_path, monkeypatch, RUN, changed(STALE))
    stale = serve(linear_model(tmp_path, name="stale_open"), server)
    with pytest.raises(WrongAnswers, match="another image's"):
        measure_open_loop(stale, 100.0, Duration(0.5, None, 1), tmp_path / "logs", clock)


def test_a_server_killed_in_an_open_loop_fails_it_within_seconds(tmp_path):
    with running() as server:
        served = serve(linear_model(tmp_path), server)
        threading.Timer(0.5, lambda: os.kill(server.pid, signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(RequestsFailed, match="(?s)a request failed.*was ended by SIGKILL"):
            measure_open_loop(served, 50.0, Duration(60.0, None, 1), tmp_path / "logs", clock)
        assert time.monotonic() - began < 10, "LoadGen has no way to end a run but a backlog of 100 requests"


def test_a_rate_that_the_server_cannot_keep_is_no_measurement(server, tmp_path, monkeypatch):
    sabotage(tmp_path, monkeypatch, RUN, f"import time; time.sleep(0.02 * len(requests)); {RUN}")
    slow = serve(linear_model(tmp_path, name="fifty_a_second"), server)
    with pytest.raises(TooFast, match="more than the server answers.*lower --rate"):
        measure_open_loop(slow, 100.0, Duration(30.0, None, 1), tmp_path / "logs", clock)
    for duration in (Duration(0.5, None, 11), Duration(0.5, 1.0, 11)):  # over before LoadGen breaks anything off
        with pytest.raises(TooFast, match="it answered [0-9.]+ a second. Give a lower --rate"):
            measure_open_loop(slow, 200.0, duration, tmp_path / "logs", clock)


@pytest.mark.parametrize(
    ("done", "requests", "is_too_fast"),
    [(100.0, 100, False), (60.1, 100, False), (59.9, 100, True), (88.0, 10_000, False), (86.0, 10_000, True)],
)
def test_a_rate_is_too_fast_where_more_than_chance_queues_up(done, requests, is_too_fast):
    assert is_behind(done, 100.0, requests) == is_too_fast


def test_the_highest_rate_keeps_its_bound(linear, tmp_path):
    found = find_highest_rate(linear, 0.1, 0.3, tmp_path, clock)
    assert found.scenario == "server"
    assert found.bound_ms == 100
    if found.validity == "VALID":
        assert found.p99_ms <= 100
        assert found.samples_per_second > 1
    else:
        assert found.samples_per_second is None and found.reasons, "a rate was given that LoadGen did not accept"


def test_overhead_is_of_right_answers_over_each_way(linear):
    measured = measure_overhead(linear, Duration(0.0, None, 1, batches=24), clock)
    assert measured.rounds == 24, "a number that was asked for is kept to"
    for way in SERVED_WAYS:
        assert getattr(measured, f"{way}_p10_ms") <= getattr(measured, f"{way}_p50_ms")
        low, high = (getattr(measured, f"{way}_overhead_{end}_ms") for end in ("low", "high"))
        assert low <= getattr(measured, f"{way}_overhead_ms") <= high
        assert getattr(measured, f"{way}_verdict") in (ADDS, SAVES, CANNOT_TELL)
    if read_threads(["self"]) is not None:  # a kernel that counts it
        assert all(getattr(measured, f"{way}_runqueue_ms") >= 0 for way in (IN_PROCESS, *SERVED_WAYS))
        assert len(linear.server.processes()) > 1, "the backend's process is not looked at"


def test_a_server_that_is_somebody_elses_is_measured_without_shared_memory(linear):
    measured = measure_overhead(replace(linear, server=attached_to(linear.server)), Duration(0.0, None, 12), clock)
    assert measured.rounds >= 12
    assert measured.grpc_p50_ms is not None
    assert measured.shared_memory_p50_ms is None and measured.shared_memory_verdict is None
    assert measured.grpc_runqueue_ms is None, "the server's processes are not known, and ours alone are not the wait"


def test_too_few_rounds_give_no_overhead(linear):
    measured = measure_overhead(linear, Duration(0.0, None, 1, batches=3), clock)
    assert measured.grpc_overhead_ms is None
    assert measured.p50_missing_rounds == 8


def test_shared_memory_has_no_name_once_it_is_mapped_and_answers_right(linear):
    def named():
        return set(Path("/dev/shm").glob(f"{linear.server.shared_memory_prefix}client*"))

    client = SharedMemoryClient(linear.server, linear.target, linear.batches[0])
    assert named() == set(), "a killed test would leave it behind"
    answers = [client.infer(batch) for batch in linear.batches]
    assert linear.require_own_answers(answers) > 60
    client.close()


def test_shared_memory_without_room_fails_the_load_and_not_the_process(linear, monkeypatch):
    """Where memory is only reserved, the first write ends the process by SIGBUS, and with it every number."""

    def refuse(descriptor, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(RequestsFailed, match=r"/dev/shm has no room for .* --shm-size"):
        measure_served(linear, Traffic("shared_memory", "sync", 2), Duration(0.1, None, 4), clock)
    assert not list(Path("/dev/shm").glob(f"{linear.server.shared_memory_prefix}client*"))


def test_an_answer_that_was_not_written_into_shared_memory_is_none(linear, monkeypatch):
    client = SharedMemoryClient(linear.server, linear.target, linear.batches[0])
    monkeypatch.setattr(client._client, "send", lambda inputs, outputs: None)
    assert np.isnan(client.infer(linear.batches[0])).all()
    monkeypatch.undo()
    client.close()


def test_the_server_knows_the_labels(linear):
    assert label_of(linear) == f"class_{linear.exported.reference[0].argmax()}"


def test_a_right_request_is_no_mistake(linear, monkeypatch):
    """The check of bad input can fail: a server that took all of them would be found out."""
    from harness.triton import mistakes

    assert mistakes._refused(linear) == ""
    monkeypatch.setattr(mistakes, "SHORT_S", 30.0)
    timeout = next(mistake for mistake in MISTAKES if mistake.name == "timeout")
    assert timeout.send(linear) == ""


@pytest.fixture
def program():
    installation_or_skip()
    try:
        return find_perf_analyzer(ROOT)
    except NoPerfAnalyzer as reason:
        pytest.skip(str(reason))


def test_perf_analyzer_measures_the_served_model(linear, program, tmp_path):
    opinion = ask_perf_analyzer(
        program, linear.server, linear.target, Traffic("grpc", "sync", 4), 1, 0.3, tmp_path
    )  # fmt: skip
    # Little's law: rate times mean latency is the number of clients, and a median is twice the mean at most
    assert 0.2 < opinion.requests_per_second * opinion.p50_ms / 1e3 <= 2 * 4, "not in the units that it says"


def test_a_row_that_perf_analyzer_does_not_write_is_an_error(linear, program, tmp_path):
    with pytest.raises(NoMeasurement, match="measured nothing"):
        ask_perf_analyzer(
            program, linear.server, Target("absent"), Traffic("http", "sync", 1), 1, 0.3, tmp_path
        )  # fmt: skip


def test_a_perf_analyzer_that_hangs_is_killed_and_told_with_its_words(tmp_path, monkeypatch):
    monkeypatch.setattr(perf_analyzer, "BESIDE_S", 0.5)
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\necho waiting for the server\necho still waiting >&2\nexec sleep 60\n")
    program.chmod(0o755)
    server = SimpleNamespace(endpoint=SimpleNamespace(http="h:1", grpc="h:2"))
    with pytest.raises(NoMeasurement, match="did not end within 0.53 s:\nwaiting for the server\nstill waiting"):
        ask_perf_analyzer(program, server, Target("m"), Traffic("http", "sync", 1), 1, 0.001, tmp_path)


def test_a_clock_that_is_wrong_by_a_tenth_is_a_disagreement():
    theirs = [Opinion(rate, 10.0) for rate in (95.0, 100.0, 104.0)]
    right = compare([Opinion(rate, 10.1) for rate in (96.0, 99.0, 103.0)], theirs, Traffic("grpc", "sync", 4), 1)
    assert right.verdict == "agree"
    require_no_disagreement(right)
    wrong = compare([Opinion(rate, 11.1) for rate in (96.0, 99.0, 103.0)], theirs, Traffic("grpc", "sync", 4), 1)
    with pytest.raises(Disagreement, match="more than 5% apart in every one of 3 pairs"):
        require_no_disagreement(wrong)


def test_pairs_that_scatter_across_the_bound_cannot_tell():
    assert verdict_of([0.8, 1.1, 1.2], [1.0, 1.0, 1.0]) == "cannot tell"
    assert verdict_of([0.9, 1.0, 1.1], [0.96, 1.0, 1.0]) == "agree"
    assert verdict_of([1.0, 1.0, 1.0], [1.06, 1.2, 1.3]) == "differ"


def refusing(refused, asked):
    """Asks nobody: the first so many turns of perf_analyzer measure nothing."""
    turns = iter(range(PAIRS))

    def ask(*arguments):
        asked.append(next(turns))
        if asked[-1] < refused:
            raise NoMeasurement("perf_analyzer measured nothing: no valid requests recorded")
        return Opinion(100.0, 10.0)

    return ask


@pytest.mark.parametrize("refused", [0, 2, 3])
def test_pairs_that_perf_analyzer_did_not_measure_are_told_and_too_many_fail(linear, tmp_path, monkeypatch, refused):
    asked = []
    monkeypatch.setattr(cross_check, "ask_perf_analyzer", refusing(refused, asked))

    def run():
        traffic = Traffic("grpc", "sync", 1)
        return cross_check.cross_check(linear, traffic, tmp_path / "perf_analyzer", tmp_path, clock)

    if PAIRS - refused >= LEAST_PAIRS:
        check = run()
        assert (check.pairs, check.unmeasured_pairs) == (PAIRS - refused, refused)
    else:
        with pytest.raises(NoMeasurement, match="no valid requests"):
            run()
        assert len(asked) == refused, "it was asked again, though too few pairs could be had"


class RollsReference:
    """A plugin under which the model in process answers with the image before."""

    def pytest_configure(self, config):
        self.before = photographs.logits_in_process
        photographs.logits_in_process = lambda module, images: np.roll(self.before(module, images), 1, axis=0)

    def pytest_unconfigure(self, config):
        photographs.logits_in_process = self.before


def test_photographs_with_other_classes_ring():
    installation_or_skip()
    outcome = run_here("tests_serial/tritonserver", "--model", TINY, "-k", "photographs", plugin=RollsReference())
    assert outcome.code == 1
    assert "photographs get another first class through the server than in process" in outcome.text


def test_the_configuration_names_every_part_for_each_backend(tmp_path):
    artefact = linear_model(tmp_path).artefact
    for backend in ("python", "onnxruntime"):
        text = repository.config_text(artefact.config(backend))
        assert f'backend: "{backend}"' in text
        assert "max_batch_size: 8" in text and "dynamic_batching" in text and "KIND_CPU" in text
    on_gpu = linear_model(tmp_path, gpu=1, accelerator="tensorrt").artefact
    assert on_gpu.backends() == ("onnxruntime",)
    text = repository.config_text(on_gpu.config("onnxruntime"))
    assert "KIND_GPU" in text and "gpus: 1" in text and 'name: "tensorrt"' in text
    script = linear_model(tmp_path, file=tmp_path / "model.pt").artefact
    assert script.backends() == ("pytorch",)
    assert "INPUT__0" in repository.config_text(script.config("pytorch"))


def test_every_percentile_of_a_record_says_what_is_missing():
    parts = {f"p{percent}_{part}" for percent in (50, 90, 99) for part in ("ms", "missing_rounds")}
    for kind in (Served, OpenLoop):
        assert parts <= {field.name for field in fields(kind)}
