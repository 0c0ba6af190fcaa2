"""Alarms of serving that ring: a served model that answers wrongly, or is asked by somebody else, is not measured."""

import json
import threading
from dataclasses import replace

import numpy as np
import onnx
import pytest

from harness.cases import Duration
from harness.proof import Contradiction
from harness.triton import repository
from harness.triton.answers import require_own_answers
from harness.triton.clients import ASYNC, CLIENTS, GrpcClient, Target, Traffic, all_traffics
from harness.triton.closed_loop import Clients
from harness.triton.control import unload_model
from harness.triton.host import serve
from harness.triton.served import Served, ask_once, measure_served
from models.tasks import WrongAnswers
from selftests.inside import TINY, run_here
from selftests.triton.tritons import attached_to, installation_or_skip, linear_model, running

SHORT = Duration(0.1, None, 20)


def clock(kind, target, next_arguments, batches=None):
    """A clock that times nothing, and says that it did."""
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
    assert batches is None or all(count > 0 for count in batches())
    return [1.0]


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


@pytest.fixture
def served(server, tmp_path):
    made = serve(linear_model(tmp_path), server)
    yield made
    unload_model(server, made.name)


def test_every_client_gets_its_own_answers_and_the_server_counted_them(served):
    for traffic in all_traffics(CLIENTS):
        measured = measure_served(served, traffic, SHORT, clock)
        assert measured.rounds >= 20
        assert measured.images == measured.rounds == len(measured.rounds_ms)
        assert measured.answers_sqnr_db > 60
        assert 1 <= measured.mean_batch <= 8
        assert served.require_own_answers(ask_once(served, traffic)) > 60


def test_eight_clients_have_eight_requests_open_and_one_has_one(server, tmp_path, monkeypatch):
    """An execution takes long enough for seven others to ask meanwhile, on a busy machine too."""
    sabotage(tmp_path, monkeypatch, RUN, f"import time; time.sleep(0.02); {RUN}")
    slow = serve(linear_model(tmp_path, name="takes_20_ms"), server)
    queued = {n: measure_served(slow, Traffic("grpc", "sync", n), SHORT, clock).mean_batch for n in (1, 8)}
    assert queued[1] == 1
    assert queued[8] > 1, "no two requests were open at a time"


def test_the_mean_number_of_open_requests_is_told():
    """Two clients, of which one begins when the other has ended half of its requests."""
    measured = Served.of(
        [0.1] * 15,
        1.0,
        batch=1,
        protocol="grpc",
        mode="sync",
        clients=2,
        answers_db=100.0,
        floor_db=60.0,
        executions=15,
        server_ms=dict.fromkeys(("queue", "input", "compute", "output"), 1.0),
        client_cpu_s=0.03,
        server_cpu_s=0.15,
    )
    assert measured.mean_concurrency == pytest.approx(1.5)
    assert (measured.client_cpu_ms, measured.server_cpu_ms) == pytest.approx((2.0, 10.0))


def test_the_processor_time_is_of_the_processes_that_take_it(server, tmp_path, monkeypatch):
    """The model keeps a core busy for 20 ms an image; the clients only wait."""
    busy = "import time; end = time.process_time() + 0.02\n        while time.process_time() < end: pass"
    sabotage(tmp_path, monkeypatch, "        responses = []", f"        {busy}\n        responses = []")
    model = serve(linear_model(tmp_path, name="busy_for_20_ms"), server)
    alone = measure_served(model, Traffic("grpc", "sync", 1), Duration(0.0, None, 30), clock)
    assert 19 < alone.server_cpu_ms < 40
    assert alone.client_cpu_ms < 15
    foreign = measure_served(
        replace(model, server=attached_to(server)), Traffic("grpc", "sync", 1), Duration(0.0, None, 3), clock
    )
    assert foreign.server_cpu_ms is None, "of a server that somebody else runs the processes are not known"


def test_in_a_run_every_client_has_its_eleven_requests(tmp_path):
    """However fast it goes: no time is asked for, and nothing but the number of clients makes it longer."""
    installation_or_skip()
    path = tmp_path / "out.json"
    arguments = ("--model", TINY, "-k", "grpc-sync-1 or grpc-async-8", "--min-test-duration", "0")
    outcome = run_here("tests_serial/tritonserver/test_single_model.py", *arguments, f"--benchmark-json={path}")
    assert outcome.code == 0, outcome.text
    rows = {one["extra_info"]["clients"]: one["extra_info"] for one in json.loads(path.read_text())["benchmarks"]}
    assert {clients: row["rounds"] for clients, row in rows.items()} == {1: 11, 8: 88}
    assert 1 < rows[8]["mean_concurrency"] <= 8


def sabotage(tmp_path, monkeypatch, before, after):
    """The served model's code with one line of it changed."""
    code = repository._PYTHON_MODEL.read_text()
    assert code.count(before) == 1
    changed = tmp_path / "changed.py"
    changed.write_text(code.replace(before, after))
    monkeypatch.setattr(repository, "_PYTHON_MODEL", changed)


RUN = "arrays = self._session.run(self._outputs, {self._input: images})"
LATER = "self._runs = getattr(self, '_runs', 0) + 1; late = self._runs > 12; "
STALE = "; self._kept = self._kept if late else logits; logits = self._kept[:1].repeat(len(images), 0)"
SABOTAGES = {
    "stale": (STALE, "another image's"),
    "zeros": ("; logits = logits * (not late)", "all zeros"),
    "nan": ("; logits = logits / (not late)", "with NaN or infinity"),
    "bfloat16": ("; logits = (logits.view('uint32') & 0xFFFF0000).view('float32')", "too short a format"),
}


def changed(lines):
    """The line that answers, with the logits changed behind it once the load has begun."""
    return f"{LATER}{RUN}; (logits,) = arrays{lines}; arrays = [logits]"


@pytest.mark.parametrize("kind", SABOTAGES)
def test_wrong_answers_under_load_ring(server, tmp_path, monkeypatch, kind):
    """The first twelve answers are right, so that those checked before the load are not what finds it."""
    lines, words = SABOTAGES[kind]
    sabotage(tmp_path, monkeypatch, RUN, changed(lines))
    exported = linear_model(tmp_path, name=f"wrong_{kind.replace(' ', '_')}")
    with pytest.raises(WrongAnswers, match=words):
        measure_served(serve(exported, server), Traffic("grpc", "sync", 1), SHORT, clock)


def test_answers_swapped_inside_a_batch_ring(server, tmp_path, monkeypatch):
    sabotage(tmp_path, monkeypatch, "return responses", "return responses[::-1]")
    served = serve(linear_model(tmp_path, name="swapped"), server)  # one request at a time: nothing to swap yet
    with pytest.raises(WrongAnswers, match="another image's"):
        measure_served(served, Traffic("grpc", "sync", 8), Duration(0.5, None, 200), clock)


def test_another_model_in_its_place_rings(server, tmp_path):
    exported = linear_model(tmp_path, name="other")
    served = serve(exported, server)
    served.exported.reference[:] = np.random.default_rng(1).standard_normal(served.exported.reference.shape)
    with pytest.raises(WrongAnswers, match="not the model's own"):
        measure_served(served, Traffic("http", "sync", 1), SHORT, clock)


def test_another_file_than_the_one_exported_rings(server, tmp_path):
    exported = linear_model(tmp_path, name="file")
    serve(exported, server)
    copy = tmp_path / "copy"
    copy.mkdir()
    later = linear_model(copy, name="file")
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes() + b"\x92\x03\x00")  # an unknown, empty field
    changed = repository.ModelFiles.files
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Contradiction, match="another ONNX file"):
        patch.setattr(repository.ModelFiles, "files", lambda self, backend: changed(exported.artefact, backend))
        serve(later, server)


def beside(exported):
    """The same model with its weights in a file beside the graph, as where they are beyond 2 GB."""
    file = exported.artefact.file
    whole = onnx.load(file)
    onnx.save(whole, file, save_as_external_data=True, location=f"{file.name}.data", size_threshold=0)
    return exported


def test_weights_beside_the_graph_are_served_and_are_part_of_the_proof(server, tmp_path):
    """Here in a place that no image sees, so that the answers do not tell."""
    exported = beside(linear_model(tmp_path, name="beside"))
    served = serve(exported, server)
    data = tmp_path / "model.onnx.data"
    assert data.stat().st_size > 1000
    assert served.evidence["session"]["sha256"] == exported.artefact.sha256()
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / data.name
    other.write_bytes(data.read_bytes() + b"\0" * 64)
    files = repository.ModelFiles.files

    def with_other_weights(self, backend):
        return {place: other if path == data else path for place, path in files(self, backend).items()}

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Contradiction, match="another ONNX file"):
        patch.setattr(repository.ModelFiles, "files", with_other_weights)
        serve(exported, server)


def test_somebody_else_asking_at_the_same_time_rings(served):
    over = threading.Event()

    def intrude():
        client = GrpcClient(served.server.endpoint, served.target)
        while not over.is_set():
            client.infer(served.batches[0])
        client.close()

    intruder = threading.Thread(target=intrude)
    intruder.start()
    try:
        with pytest.raises(Contradiction, match="others ask it too"):
            measure_served(served, Traffic("grpc", "sync", 1), SHORT, clock)
    finally:
        over.set()
        intruder.join()


def test_answers_are_kept_in_the_order_asked_whatever_order_they_come_in(served, monkeypatch):
    """The first client's requests take longer than all others: their answers come late."""
    import asyncio

    opener = ASYNC["grpc"]
    opened = []

    class Slow:
        def __init__(self, endpoint, target):
            self.client = opener(endpoint, target)
            self.is_slow = not opened
            opened.append(self)

        async def infer(self, images):
            answer = await self.client.infer(images)
            await asyncio.sleep(0.05 if self.is_slow else 0)
            return answer

        async def close(self):
            await self.client.close()

    monkeypatch.setitem(ASYNC, "grpc", Slow)
    with Clients(Traffic("grpc", "async", 4), served.server, served.target, served.batches) as clients:
        load = clients.run(lambda sent, s: sent < 40)
    done = [request.done_s for request in load.requests]
    assert done != sorted(done), "they came in the order asked, so nothing was shown"
    assert [request.index for request in load.requests] == list(range(40))
    assert served.require_own_answers(load.answers()) > 60


def test_the_check_names_the_request_and_the_image():
    reference = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
    answers = [reference[[0, 1]], reference[[3, 2]]]
    with pytest.raises(WrongAnswers, match=r"2 of 4 .* 2 another image's; the first is that to request 1, image 2"):
        require_own_answers(reference, [[0, 1], [2, 3]], answers, 60)
    assert require_own_answers(reference, [[0, 1], [3, 2]], answers, 60) == 200


def test_a_model_that_answers_alike_to_all_cannot_be_checked():
    alike = np.ones((4, 10), dtype=np.float32)
    with pytest.raises(WrongAnswers, match="could not be told from right ones"):
        require_own_answers(alike, [[0]], [alike[:1]], 60)


def test_a_model_of_the_users_own_is_served_as_it_is(server, tmp_path):
    """Other names at its ends, no mark of ours: not written over, asked by its own names, and checked all the same."""
    exported = linear_model(tmp_path, name="supplied")
    folder = repository.write_model(server.repository, exported.artefact, "python")
    (folder / repository.MARK).unlink()
    config = (folder / repository.CONFIG).read_text()
    (folder / repository.CONFIG).write_text(config + "\n# mine\n")
    served = serve(exported, server)
    assert served.evidence["supplied"]
    assert (folder / repository.CONFIG).read_text().endswith("# mine\n")
    assert served.target == Target("supplied", widths=served.exported.artefact.widths)
