"""End to end: how many images a second from the encoded file to its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

from harness.cases import Duration, wants_more
from harness.data import DECODER, IMAGENET_CLASSES, ImageFile
from harness.measure.clock import TimedRounds
from harness.measure.pipeline import answers_of_files, stage_rates
from harness.proof import Prepared
from models.tasks import task_of


@dataclass(frozen=True)
class EndToEnd:
    """From before the encoded image is read until its class is on the host.

    Each stage's images per second are those of the stage alone, with every worker it has, in the same process just
    before; the slowest of them is the bound.
    """

    kind: ClassVar[str] = "end_to_end"

    images_per_second: float
    images: int
    wall_s: float
    passes: int
    decode_images_per_second: float
    preprocess_images_per_second: float
    copy_images_per_second: float
    model_images_per_second: float
    bound: str
    workers: int
    decoder: str
    data: str
    unique_images: int
    labelled_images: int
    top1_pct: float | None
    top1_note: str | None


def measure_end_to_end(
    prepared: Prepared,
    files: Sequence[ImageFile],
    data: str,
    duration: Duration,
    pool: ThreadPoolExecutor,
    workers: int,
    timed: TimedRounds,
) -> EndToEnd | None:
    """Passes over the files, each from before the first is read until the last class is on the host.

    Args:
        prepared: the case.
        files: encoded images.
        data: where they come from, for the record.
        duration: passes are repeated for its `min_s` and cut short, between two batches, at its `max_s`.
        pool: decodes and preprocesses.
        workers: threads of the pool.
        timed: the clock.
    """
    task = task_of(prepared.spec)
    transform = task.transform(prepared.spec)
    batch = prepared.case.images
    rates = stage_rates(prepared.runner, task, transform, files, batch, pool)
    passes: list[list[Any]] = []
    labels: list[int] = []
    began: list[float] = []

    def is_time_up() -> bool:
        return duration.max_s is not None and perf_counter() - began[0] >= duration.max_s

    def one_pass() -> None:
        began[:] = began or [perf_counter()]
        found: list[Any] = []
        for _, outputs in answers_of_files(prepared.runner, transform, files, batch, pool, is_time_up):
            found += task.decode(outputs)
            labels[:] = [task.labels(outputs)]
        passes.append(found)

    rounds_s = timed("end to end", one_pass, lambda s: () if wants_more(duration, len(passes), s) else None)
    prepared.require_no_recompilation()
    if not rounds_s:
        return None
    images = sum(map(len, passes))
    labelled, right = top1(files, passes[0])
    note = _why_no_top1(prepared, labelled, labels[0])
    if len(passes[0]) < len(files):
        note = note or f"cut short: {len(passes[0])} of {len(files)} images"
    return EndToEnd(
        images_per_second=images / sum(rounds_s),
        images=images,
        wall_s=sum(rounds_s),
        passes=len(passes),
        decode_images_per_second=rates["decode"],
        preprocess_images_per_second=rates["preprocess"],
        copy_images_per_second=rates["copy"],
        model_images_per_second=rates["model"],
        bound=bound_of(rates),
        workers=workers,
        decoder=DECODER,
        data=data,
        unique_images=len(passes[0]),
        labelled_images=labelled,
        top1_pct=None if note else 100 * right / labelled,
        top1_note=note,
    )


def _why_no_top1(prepared: Prepared, labelled: int, labels: int) -> str | None:
    if prepared.proof.identity["weights"] == "random":
        return "weights are random: their classes mean nothing"
    if labels != IMAGENET_CLASSES:
        return f"the model has {labels} classes, not the labels' {IMAGENET_CLASSES}"
    return None if labelled else "no labels: the folders are no wnids"


def bound_of(rates: Mapping[str, float]) -> str:
    """The stage that bounds the pipeline.

    Decoding and preprocessing share the workers, copy and model the thread that feeds the device; of the pair that is
    slower together, the slower stage.

    Args:
        rates: images per second of each stage alone.
    """
    pairs = (("decode", "preprocess"), ("copy", "model"))
    slower = max(pairs, key=lambda pair: sum(1 / rates[stage] for stage in pair))
    return min(slower, key=lambda stage: rates[stage])


def top1(files: Sequence[ImageFile], classes: Sequence[int]) -> tuple[int, int]:
    """How many of the classified files have a label, and how many of those are right."""
    labelled = [(file.label, found) for file, found in zip(files, classes, strict=False) if file.label is not None]
    return len(labelled), sum(label == found for label, found in labelled)
