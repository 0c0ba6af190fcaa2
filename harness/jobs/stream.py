"""A stream as a job: a separate process with its own copy of a case's model, which runs one batch after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.artefacts.saved_model import SavedModel
from harness.cases import Case, Duration
from harness.data import ImageFile
from harness.devices import open_device
from harness.host.cores import Allotment, current, share_out
from harness.jobs.job import Job, Placement
from harness.measure.calibration import data_calibration
from harness.measure.stream_window import StreamRun, Window, run_window
from harness.progress import ReportPhase
from harness.proof import LastAnswer, Prepared, References, prepare
from models.catalog import ModelSpec


@dataclass(frozen=True)
class BuildInputs:
    """What is needed to build a model, in a form that can be sent to another process, unlike `Artefacts`.

    Attributes:
        weights: `random`, `pretrained` or the path of a file.
        cache_dir: the folder in which artefacts are kept.
        data: the name of the data set.
        calibration: the calibration images of the data set; empty to calibrate on generated images.
        saved: a prepared model to load instead of building one.
    """

    weights: str | Path
    cache_dir: Path
    data: str = ""
    calibration: tuple[ImageFile, ...] = ()
    saved: SavedModel | None = None

    def artefacts(self, spec: ModelSpec) -> Artefacts:
        """Return the cache and the calibration that an engine is given."""
        cache = ArtefactCache(self.cache_dir)
        if self.calibration:
            return Artefacts(cache, lambda: data_calibration(spec, self.data, self.calibration))
        return Artefacts(cache, lambda: generated_calibration(spec))


@dataclass(frozen=True)
class StreamJob:
    """One stream as a job.

    Attributes:
        name: the name of the stream, such as `stream 1`.
        case: the case of this stream alone: one stream and one replica, on the stream's own device.
        spec: the catalogue row of the model.
        inputs: the weights, the cache folder and the calibration images.
    """

    name: str
    case: Case
    spec: ModelSpec
    inputs: BuildInputs

    def prepare(self, report: ReportPhase) -> ReadyStream:
        """See `Job.prepare`.

        Raises:
            Contradiction, WrongAnswers: the stream is not what its label says.
        """
        weights, artefacts = self.inputs.weights, self.inputs.artefacts(self.spec)
        prepared = prepare(
            self.case,
            self.spec,
            weights,
            References(self.spec, weights, artefacts.cache),
            report,
            artefacts,
            self.inputs.saved,
        )
        try:
            prepared.require_proof()
        except BaseException:
            prepared.close()
            raise
        return ReadyStream(self.name, prepared, {**prepared.record(), "cores": list(current().cpus)})


@dataclass(frozen=True)
class ReadyStream:
    """A stream that is loaded, proven and warm. See `ReadyJob`."""

    name: str
    prepared: Prepared
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def step_s(self) -> float:
        """See `ReadyJob.step_s`. A step is one batch, as timed at the end of warm-up."""
        return self.prepared.cost.batch_s

    def run(self, duration: Duration, window: Window) -> StreamRun:
        """See `ReadyJob.run`.

        Raises:
            Contradiction: a graph was compiled in the window.
            WrongAnswers: the last answer of the window is not that of its batch.
        """
        last = LastAnswer(self.prepared)
        found = run_window(self.prepared.runner, self.prepared.batches, duration, window, self.name, last.note)
        last.check(f"the window of {self.name}")
        self.prepared.require_no_recompilation()
        return found

    def close(self) -> None:
        """See `ReadyJob.close`."""
        self.prepared.close()


def placements(case: Case) -> list[Case]:
    """Return the case of each stream alone, with a device index if there are several replicas.

    For example, `--replicas 2 --streams 2` on `cuda` gives two streams on each of `cuda:0` and `cuda:1`.
    """
    alone = case.alone()
    if case.processes == case.streams:  # one device, or as many replicas as one process drives itself
        if getattr(open_device(case.device), "is_exclusive", False) and case.replicas == 1 and case.streams > 1:
            return [replace(alone, device=f"{case.device_kind}:{stream}") for stream in range(case.streams)]
        return [alone] * case.streams
    return [
        replace(alone, device=f"{case.device}:{replica}")
        for replica in range(case.replicas)
        for _ in range(case.streams)
    ]


def stream_jobs(
    case: Case, spec: ModelSpec, inputs: BuildInputs, here: Allotment | None = None
) -> list[tuple[Job, Placement]]:
    """Return the streams of a case as jobs.

    Threads are divided between the streams; if the device is the host, so are the physical cores.

    Args:
        case: the case of all the streams.
        spec: the catalogue row of the model.
        inputs: the weights, the cache folder and the calibration images.
        here: the part of the machine that the streams may use, None for that of this process.
    """
    cases = placements(case)
    places = stream_placements(here or current(), len(cases), open_device(cases[0].device).is_host)
    return [
        (StreamJob(f"stream {index + 1}", one, spec, inputs), place)
        for index, (one, place) in enumerate(zip(cases, places, strict=True))
    ]


def stream_placements(here: Allotment, streams: int, is_on_host: bool) -> list[Placement]:
    """Return the part of the machine that each stream has.

    Args:
        here: the part that the streams have together.
        streams: the number of streams.
        is_on_host: whether the streams compute on the host. On another device they share all the cores.
    """
    threads = max(1, min(here.threads, len(here.cpus)) // streams)
    if not is_on_host:
        return [Placement(here.cpus, threads, here.node)] * streams
    shares = share_out(here.cores, streams)
    return [
        Placement(tuple(sorted(cpu for core in share for cpu in core.cpus)), threads, here.node) for share in shares
    ]
