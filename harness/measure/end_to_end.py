"""End-to-end throughput: images per second from the encoded file to the answer on the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

from harness.cases import Duration, wants_more
from harness.data import DECODER, IMAGENET_CLASSES, ImageFile
from harness.measure.clock import TimedRounds
from harness.measure.pipeline import LEAST_STAGE_S, AnsweredBatch, answer_again, answers_of_files, stage_rates
from harness.proof import Prepared, case_pixels
from models.tasks import Outputs, Task, task_of


@dataclass(frozen=True)
class EndToEnd:
    """The throughput from before the encoded images are read until their classes, or their boxes, are on the host.

    The images per second of each stage are measured in the same process just before, with the stage running alone on
    all its workers. `bound` names the stage that limits the pipeline (see `bound_of`). `answer_images_per_second` is a
    part of the stage `model`: making answers of the outputs, which for a detector is decoding and suppressing boxes.
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
    unreadable_images: int
    answer_images_per_second: float


def measure_end_to_end(
    prepared: Prepared,
    files: Sequence[ImageFile],
    data: str,
    duration: Duration,
    pool: ThreadPoolExecutor,
    workers: int,
    timed: TimedRounds,
    *,
    skips_unreadable: bool = False,
) -> EndToEnd | None:
    """Time passes over the files, each from before the first file is read until the last answer is on the host.

    Args:
        prepared: the case.
        files: the encoded images.
        data: the source of the images, for the record.
        duration: passes are repeated for at least its `min_s`, and cut short between two batches at its `max_s`.
        pool: the threads that decode and preprocess.
        workers: the number of threads in the pool.
        timed: the clock.
        skips_unreadable: whether files that cannot be decoded are left out and counted.

    Returns:
        The measurement, or None if timing is switched off.

    Raises:
        Contradiction: a graph was compiled in a timed pass.
        UnreadableImage: a file cannot be decoded, and `skips_unreadable` is False; or none can.
        WrongAnswers: a batch was answered otherwise than by itself.
    """
    task = task_of(prepared.spec)
    transform = case_pixels(prepared.case, prepared.spec)
    batch = prepared.case.images
    rates = stage_rates(prepared.runner, task, transform, files, batch, pool, skips_unreadable=skips_unreadable)
    sizes: dict[int, tuple[int, int]] = {}
    passes: list[list[Any]] = []
    seen: list[list[int]] = []
    unreadable: set[int] = set()
    on_unreadable = (lambda index, error: unreadable.add(index)) if skips_unreadable else None
    labels: list[int] = []
    # The last whole batches, which are answered again: behind the one before the last, another was submitted.
    whole: deque[AnsweredBatch] = deque(maxlen=2)
    began: list[float] = []

    def is_time_up() -> bool:
        return duration.max_s is not None and perf_counter() - began[0] >= duration.max_s

    def one_pass() -> None:
        began[:] = began or [perf_counter()]
        found: list[Any] = []
        indices: list[int] = []
        for some, outputs in answers_of_files(
            prepared.runner, transform, files, batch, pool, is_time_up, on_unreadable, sizes.__setitem__
        ):
            found += task.decode(outputs, [sizes[index] for index in some])
            indices += some
            if len(some) == batch:
                whole.append(AnsweredBatch(tuple(files[index] for index in some), outputs.copy()))
            labels[:] = [task.labels(outputs)]
        passes.append(found)
        seen.append(indices)

    rounds_s = timed(
        "end to end",
        one_pass,
        lambda s: () if wants_more(duration, len(passes), s) else None,
        lambda: [max(len(found), 1) / batch for found in passes],
    )
    prepared.require_no_recompilation()
    if not rounds_s:
        return None
    answer_again(prepared, whole, "end to end")
    images = sum(map(len, passes))
    labelled, right = top1([files[index] for index in seen[0]], passes[0])
    note = _why_no_top1(prepared, labelled, labels[0])
    if len(passes[0]) + len(unreadable) < len(files):
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
        unique_images=len({files[index] for index in seen[0]}),
        labelled_images=labelled,
        top1_pct=None if note else 100 * right / labelled,
        top1_note=note,
        unreadable_images=len(unreadable),
        answer_images_per_second=answer_rate(task, prepared.proof.answers[0]),
    )


def answer_rate(task: Task, outputs: Outputs, clock: Callable[[], float] = perf_counter) -> float:
    """Return the images per second of making answers of outputs alone, for at least `LEAST_STAGE_S` by the clock."""
    task.decode(outputs)
    began_s, rounds = clock(), 0
    while (elapsed_s := clock() - began_s) < LEAST_STAGE_S:
        task.decode(outputs)
        rounds += 1
    return rounds * len(outputs) / elapsed_s


def _why_no_top1(prepared: Prepared, labelled: int, labels: int) -> str | None:
    if prepared.proof.identity["weights"] == "random":
        return "weights are random: their classes mean nothing"
    if labels != IMAGENET_CLASSES:
        return f"the model has {labels} classes, not the labels' {IMAGENET_CLASSES}"
    return None if labelled else "no labels: the folders are no wnids"


def bound_of(rates: Mapping[str, float]) -> str:
    """Return the name of the stage that limits the pipeline.

    Decoding and preprocessing share the worker threads; copying and the model share the thread that feeds the device.
    The result is the slower stage of the pair that takes longer together.

    Args:
        rates: the images per second of each stage alone.
    """
    pairs = (("decode", "preprocess"), ("copy", "model"))
    slower = max(pairs, key=lambda pair: sum(1 / rates[stage] for stage in pair))
    return min(slower, key=lambda stage: rates[stage])


def top1(files: Sequence[ImageFile], classes: Sequence[int]) -> tuple[int, int]:
    """Return how many of the classified files have a label, and how many of those are classified correctly."""
    labelled = [(file.label, found) for file, found in zip(files, classes, strict=False) if file.label is not None]
    return len(labelled), sum(label == found for label, found in labelled)
