"""Serves one model at a time on the server of a run, and proves that it is the model of the case.

The model is loaded, its session is read back and its first answers are compared. It is unloaded before the next is
loaded, so that no other model competes with it for memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from harness.artefacts import ArtefactCache
from harness.cases import PRECISIONS, Case
from harness.engines.onnxruntime import PROVIDERS
from harness.progress import ReportPhase
from harness.proof import Contradiction
from harness.triton.answers import require_own_answers
from harness.triton.clients import GrpcClient, ImageBatch, RequestFailed, Target
from harness.triton.control import (
    Loaded,
    ModelNotServed,
    load_model,
    request_unload,
    unload_model,
)
from harness.triton.export import Exported, export_case
from harness.triton.readings import NoSession, served_config, server_version, session_of
from harness.triton.repository import ModelFiles
from harness.triton.server import Server
from models.catalog import ModelSpec
from models.tasks import WrongAnswers
from models.tasks.classify import Logits

CHECKED_REQUESTS = 4


@dataclass(frozen=True)
class ServedModel:
    """A model that is being served.

    Attributes:
        exported: the files that the server was given, and the answers that it should give.
        server: the server that serves the model.
        target: the names by which requests ask for the model.
        load_s: seconds from the load request until the server had the model ready; of a model that was there already,
            those of asking for it.
        answers_db: the worst signal-to-noise ratio of the answers that were checked first, in dB.
        evidence: what runs, as the server and the model's session report it.
        stays: whether it is somebody else's model on a server that somebody else runs; it is left as it was.
    """

    exported: Exported
    server: Server
    target: Target
    load_s: float
    answers_db: float
    evidence: dict[str, Any]
    stays: bool = False

    @property
    def case(self) -> Case:
        """The case; its batch is the number of images per request."""
        return self.exported.case

    @property
    def batches(self) -> Sequence[ImageBatch]:
        """Different requests, to be sent in rotation."""
        return self.exported.batches

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.target.model

    @property
    def floor_db(self) -> float:
        """The least signal-to-noise ratio of an answer, that of the precision."""
        return PRECISIONS[self.case.precision].sqnr_floor_db

    def require_own_answers(self, answers: Sequence[Logits], asked: Sequence[int] | None = None) -> float:
        """Return the worst answer's signal-to-noise ratio in dB.

        Args:
            answers: the answers, in the order in which they were asked for.
            asked: for each answer, the index of its batch; None if all batches were sent in rotation.

        Raises:
            WrongAnswers: if an answer is not the model's own answer to its image.
        """
        return check_answers(self.exported, answers, asked)


@dataclass
class Host:
    """The server of a run, and the model that it serves.

    Attributes:
        open_server: starts a server or attaches to one; it is called again if the server has died.
        cache: the cache of exported models.
        threads: the number of threads that one operator of a served model may use.
    """

    open_server: Callable[[], Server]
    cache: ArtefactCache
    threads: int
    _server: Server | None = None
    _served: ServedModel | None = None
    _exported: Exported | None = None

    def server(self) -> Server:
        """Return a usable server: the present one, or a new one if the present one can no longer be used."""
        if self._server is not None and self._server.trouble():
            self._server.stop(fast=True)
            self._server = self._served = None
        if self._server is None:
            self._server = self.open_server()
        return self._server

    def serve(self, case: Case, spec: ModelSpec, weights: str | Path, report: ReportPhase) -> ServedModel:
        """Unload the previous model, serve the case's model and prove it; return the served model.

        Raises:
            ModelNotServed: if the server refused the model.
            ServerFailed: if the server died or hung while it loaded the model.
            Contradiction: if something else runs than the label says.
            WrongAnswers: if the answers are not the model's own.
        """
        if self._served is not None and self._served.server is self.server() and self._served.case == case:
            if is_answering(self._served):
                return self._served
            self._served = None  # the model is loaded again, over what is there, under the same name
        self.clear()
        server = self.server()
        if self._exported is None or self._exported.case != case:
            self._exported = None
            self._exported = export_case(case, spec, weights, self.cache, self.threads, report)
        report("loading into the server")
        self._served = serve(self._exported, server)
        return self._served

    def clear(self) -> None:
        """Unload the model that is served, unless it was there before.

        A server that cannot unload it is given up: one whose backend process died hangs over the unload. Where the
        server is somebody else's, it is asked all the same, because what is left there stays.
        """
        served, self._served = self._served, None
        if served is None or served.stays or served.server.trouble():
            return
        if served.server.pid is not None and not is_answering(served):
            served.server.spoil(f"{served.name!r} no longer answers")
            return
        try:
            unload_model(served.server, served.name)
        except ModelNotServed as stuck:
            served.server.spoil(str(stuck))

    def close(self) -> None:
        """Unload the model and end the server. A server that was attached to is left running, as it was."""
        try:
            self.clear()
        finally:
            if self._server is not None:
                self._server.stop()


def is_answering(served: ServedModel) -> bool:
    """Return whether the model answers a request.

    The server's word does not suffice: it reports that a model is ready whose backend process has died.
    """
    client = GrpcClient(served.server.endpoint, served.target)
    try:
        client.infer(served.batches[0])
    except RequestFailed:
        return False
    finally:
        client.close()
    return True


def serve(exported: Exported, server: Server) -> ServedModel:
    """Have the server serve the model, read back what runs, and compare its first answers.

    A model that is loaded and then turns out not to be the case's is unloaded again.

    Raises:
        Contradiction: if something else runs than the label says.
        WrongAnswers: if the answers are not the model's own.
    """
    began = perf_counter()
    loaded = load_model(server, exported.artefact)
    load_s = perf_counter() - began
    try:
        return _proven(exported, server, loaded, load_s)
    except BaseException:
        if not loaded.stays:
            with suppress(ModelNotServed):
                request_unload(server, loaded.name)
        raise


def _proven(exported: Exported, server: Server, loaded: Loaded, load_s: float) -> ServedModel:
    """Return the model that the server has loaded, proven to be the case's; see `serve`."""
    config = served_config(server, loaded.name)
    session, missing = None, None
    try:
        session = session_of(server, loaded.name)
    except NoSession as reason:
        missing = str(reason)
    evidence: dict[str, Any] = {
        "engine": session["engine"] if session else config["backend"],
        "backend": config["backend"],
        "server": f"triton {server_version(server)}",
        "served_as": loaded.name,
        "session": session,
        "session_missing": missing,
        "supplied": loaded.backend is None,
        "max_batch_size": config.get("max_batch_size", 0),
        "instance_group": config.get("instance_group", []),
        "dynamic_batching": config.get("dynamic_batching"),
    }
    problems = contradictions(exported, evidence)
    if problems:
        raise Contradiction(f"{exported.case}: " + "; ".join(problems))
    outputs = _in_order(config["output"], exported.artefact)
    target = Target(loaded.name, config["input"][0]["name"], outputs, exported.artefact.widths)
    client = GrpcClient(server.endpoint, target)
    try:
        answers = [client.infer(batch) for batch in exported.batches[:CHECKED_REQUESTS]]
    finally:
        client.close()
    answers_db = check_answers(exported, answers)
    return ServedModel(exported, server, target, load_s, answers_db, evidence, loaded.stays)


def _in_order(outputs: Sequence[Mapping[str, Any]], artefact: ModelFiles) -> tuple[str, ...]:
    """Return the names of a served model's outputs in the order of the reference's, where they are the same ones."""
    served, own = tuple(output["name"] for output in outputs), tuple(name for name, _ in artefact.outputs)
    return own if set(served) == set(own) else served[: len(own)]


def check_answers(exported: Exported, answers: Sequence[Logits], asked: Sequence[int] | None = None) -> float:
    """Compare answers with the model's own; see `ServedModel.require_own_answers`.

    Raises:
        WrongAnswers: if an answer is below the floor of the precision.
    """
    batch, count = exported.case.batch, len(exported.batches)
    turns = [turn % count for turn in range(len(answers))] if asked is None else asked
    images = [[turn * batch + place for place in range(batch)] for turn in turns]
    floor = PRECISIONS[exported.case.precision].sqnr_floor_db
    try:
        return require_own_answers(exported.reference, images, answers, floor, exported.artefact.widths)
    except WrongAnswers as wrong:
        raise WrongAnswers(f"{exported.case}: {wrong}") from None


def contradictions(exported: Exported, evidence: dict[str, Any]) -> list[str]:
    """Return every point in which what the server runs contradicts the case's label."""
    kind = exported.case.device.partition(":")[0]
    session = evidence["session"]
    found = []
    if session is not None:
        first = session["providers"].partition(",")[0]
        if first != PROVIDERS[kind]:
            found.append(f"label says device {kind}, but the session runs on {first} first")
        wanted_type = "tensor(uint8)" if exported.artefact.input_type == "UINT8" else "tensor(float)"
        if session["input_type"] != wanted_type:
            found.append(f"the session's input is {session['input_type']}, and the case's is {wanted_type}")
        if session["sha256"] != exported.artefact.sha256() and not evidence["supplied"]:
            found.append("the server loaded another ONNX file than the one exported for this case")
    wanted = "KIND_CPU" if kind == "cpu" else "KIND_GPU"
    kinds = sorted({str(group.get("kind")) for group in evidence["instance_group"]})
    if kinds != [wanted]:
        found.append(f"label says device {kind}, but the server's instances are {', '.join(kinds) or 'none'}")
    return found
