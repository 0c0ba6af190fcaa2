"""A worker of a bulk run as a job: a process with a copy of a case's model, which answers one block after the other."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from harness.cases import Case
from harness.devices import open_device
from harness.host.cores import Allotment, current, usable_cores
from harness.jobs.crews.crew import PieceJob
from harness.jobs.job import Placement
from harness.jobs.stream import BuildInputs, stream_placements
from harness.measure.bulk.ahead import DecodingAhead
from harness.measure.bulk.blocks import Block
from harness.measure.bulk.classify import BlockRun, classify_block
from harness.measure.pipeline import BATCHES_AHEAD, AnsweredBatch, answer_again, workers
from harness.progress import ReportPhase
from harness.proof import Prepared, References, prepare
from models.catalog import ModelSpec
from models.tasks import task_of

WARM_ROUNDS = 3


@dataclass(frozen=True)
class BulkJob:
    """One worker of a bulk run. See `PieceJob`.

    Attributes:
        case: the case of this worker alone, on its own device.
        spec: the catalogue row of the model.
        inputs: the weights, the cache folder and the calibration images.
        decoders: the number of threads that decode, None for one for each core that the worker may use.
        skips_unreadable: whether files that cannot be decoded are left out and counted.
    """

    case: Case
    spec: ModelSpec
    inputs: BuildInputs
    decoders: int | None = None
    skips_unreadable: bool = False

    def prepare(self, report: ReportPhase) -> ReadyBulk:
        """See `PieceJob.prepare`.

        Raises:
            Contradiction, WrongAnswers: the worker is not what its label says.
        """
        weights, inputs = self.inputs.weights, self.inputs
        artefacts = inputs.artefacts(self.spec)
        references = References(self.spec, weights, artefacts.cache)
        with ExitStack() as held:
            prepared = prepare(self.case, self.spec, weights, references, report, artefacts, inputs.saved)
            held.callback(prepared.close)
            prepared.require_proof()
            decoders = self.decoders or usable_cores()
            threads = held.enter_context(workers(decoders))
            pool = DecodingAhead(threads, BATCHES_AHEAD * self.case.images)
            facts = {
                **prepared.record(),
                "cores": list(current().cpus),
                "decoders": decoders,
                "labels": task_of(self.spec).labels(prepared.proof.answers[0]),
                "node": platform.node(),
                "pid": os.getpid(),
                "where": f"{platform.node()}, process {os.getpid()}, {self.case.device}",
            }
            return ReadyBulk(prepared, pool, self.skips_unreadable, facts, held.pop_all())


@dataclass(frozen=True)
class ReadyBulk:
    """A worker whose model is loaded, proven and warm. See `ReadyWorker`."""

    prepared: Prepared
    pool: DecodingAhead
    skips_unreadable: bool
    facts: dict[str, Any]
    held: ExitStack = field(default_factory=ExitStack)
    last: list[AnsweredBatch] = field(default_factory=list)

    def warm(self) -> None:
        """See `ReadyWorker.warm`."""
        runner, batches = self.prepared.runner, self.prepared.batches
        for index in range(WARM_ROUNDS):
            runner.submit(batches[index % len(batches)])
            runner.synchronize()

    def expect(self, piece: Block) -> None:
        """See `ReadyWorker.expect`. Its first images are decoded while the model works on the last of this one."""
        self.pool.expect(piece.files)

    def work(self, piece: Block) -> BlockRun:
        """See `ReadyWorker.work`. The piece is a block.

        Raises:
            UnreadableImage: a file cannot be decoded, and none may be left out.
            WrongAnswers: the answers are not finite.
        """
        last: list[AnsweredBatch] = []
        run = classify_block(self.prepared, piece, self.pool, last.append, skips_unreadable=self.skips_unreadable)
        self.last[:] = last or self.last
        return run

    def finish(self) -> None:
        """See `ReadyWorker.finish`.

        Raises:
            Contradiction: a graph was compiled in the window.
            WrongAnswers: the last whole batch gets another answer by itself than it got in the window.
        """
        answer_again(self.prepared, self.last, "the bulk run")
        self.prepared.require_no_recompilation()

    def close(self) -> None:
        """See `ReadyWorker.close`."""
        self.held.close()


def bulk_devices(device: str, count: int) -> list[str]:
    """Return the device of each of so many workers: they are dealt out over the devices of a kind that are there.

    A device that is named with its index, or a host, has them all.
    """
    if ":" in device or open_device(device).is_host:
        return [device] * count
    here = present_devices(device)
    return [here[index % len(here)] for index in range(count)] if here else [device] * count


def present_devices(kind: str) -> list[str]:
    """Return the names of the devices of a kind that are present, such as `cuda:0` and `cuda:1`."""
    found: list[str] = []
    while True:
        name = f"{kind}:{len(found)}"
        try:
            if open_device(name).available() is not None:
                return found
        except ValueError:  # there is no device of that number
            return found
        found.append(name)


def bulk_jobs(job: BulkJob, count: int, here: Allotment | None = None) -> Sequence[tuple[PieceJob, Placement]]:
    """Return so many workers of a bulk run on this machine, each with its device and its part of the machine.

    Threads are divided between the workers; if the device is the host, so are the physical cores.
    """
    device = job.case.device
    places = stream_placements(here or current(), count, open_device(device).is_host)
    jobs = [replace(job, case=replace(job.case, device=one)) for one in bulk_devices(device, count)]
    return list(zip(jobs, places, strict=True))
