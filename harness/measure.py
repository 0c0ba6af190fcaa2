"""The measurements: what each clock encloses. The clock itself is handed in, so that pytest-benchmark can be it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from time import perf_counter
from typing import Any, Protocol

from harness.accuracy import Answers, Gate, Judged, Report, Sample, answer, judge
from harness.end_to_end import bound_of, classify, stage_rates, top1
from harness.imagenet import DECODER, IMAGENET_CLASSES, ImageFile
from harness.measurement import EndToEnd, Latency, Parity, Scenario, Streams, Throughput
from harness.parity import Logits, sqnr_db, top1_agreement_pct
from harness.precision import PRECISIONS
from harness.prepare import PARITY_IMAGES, Prepared, answers, input_images
from harness.reference import is_reference
from harness.rounds import Duration, wants_more, window_batches
from harness.scenarios import Images, Terms, run_scenario
from harness.streams import Streams as RunningStreams
from models.preprocess import build_transform

NextArguments = Callable[[float], tuple[Any, ...] | None]


class TimedRounds(Protocol):
    """A clock that runs a target again and again."""

    def __call__(self, kind: str, target: Callable[..., None], next_arguments: NextArguments) -> list[float]:
        """Seconds of each round of `target`.

        Args:
            kind: what is measured, for tables and progress.
            target: what is timed.
            next_arguments: given the seconds since the first round began, the arguments of one more round, made
                outside the timed region, or None to end.

        Returns:
            The rounds, in their order; none where timing is switched off.
        """


def measure_latency(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Latency | None:
    """One batch a round, from before `submit` until after `synchronize`; another input each round."""
    runner, batches = prepared.runner, prepared.batches
    turn = count()

    def one_batch(batch: Any) -> None:
        runner.submit(batch)
        runner.synchronize()

    def next_round(elapsed_s: float) -> tuple[Any, ...] | None:
        index = next(turn)
        return (batches[index % len(batches)],) if wants_more(duration, index, elapsed_s) else None

    rounds_s = timed("latency", one_batch, next_round)
    prepared.require_no_recompilation()
    return Latency.of(rounds_s) if rounds_s else None


def measure_throughput(prepared: Prepared, duration: Duration, timed: TimedRounds) -> Throughput | None:
    """Windows of batches: from before the first `submit` until after one `synchronize` at the end."""
    runner, batches = prepared.runner, prepared.batches
    windows: list[int] = []

    def one_window(size: int, left_s: float) -> None:
        """So many batches, or fewer where the time is up: the machine may be slower than it was."""
        end_s = perf_counter() + left_s
        done = 0
        while done < size and (done == 0 or perf_counter() < end_s):
            runner.submit(batches[done % len(batches)])
            done += 1
        runner.synchronize()
        windows.append(done)

    def next_window(elapsed_s: float) -> tuple[Any, ...] | None:
        done = sum(windows)
        size = window_batches(duration, done, elapsed_s, elapsed_s / done if done else prepared.batch_s)
        return (size, math.inf if duration.max_s is None else duration.max_s - elapsed_s) if size else None

    windows_s = timed("throughput", one_window, next_window)
    prepared.require_no_recompilation()
    return Throughput.of(windows_s, windows, prepared.case.batch) if windows_s else None


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
    transform = build_transform(prepared.spec)
    batch = prepared.case.batch
    rates = stage_rates(prepared.runner, transform, files, batch, pool)
    passes: list[list[int]] = []
    began: list[float] = []

    def is_time_up() -> bool:
        return duration.max_s is not None and perf_counter() - began[0] >= duration.max_s

    def one_pass() -> None:
        began[:] = began or [perf_counter()]
        passes.append(classify(prepared.runner, transform, files, batch, pool, is_time_up))

    rounds_s = timed("end to end", one_pass, lambda s: () if wants_more(duration, len(passes), s) else None)
    prepared.require_no_recompilation()
    if not rounds_s:
        return None
    images = sum(map(len, passes))
    labelled, right = top1(files, passes[0])
    note = _why_no_top1(prepared, labelled)
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


def _why_no_top1(prepared: Prepared, labelled: int) -> str | None:
    if prepared.identity["weights"] == "random":
        return "weights are random: their classes mean nothing"
    if prepared.classes != IMAGENET_CLASSES:
        return f"the model has {prepared.classes} classes, not the labels' {IMAGENET_CLASSES}"
    return None if labelled else "no labels: the folders are no wnids"


class WindowWatch(Protocol):
    """Told when the timed window begins and ends."""

    def begin(self) -> None:
        """Now."""

    def end(self) -> None:
        """Now."""


def measure_streams(
    streams: RunningStreams, duration: Duration, timed: TimedRounds, watch: WindowWatch
) -> Streams | None:
    """Requests of several processes in one common window; the clock is their own, the round is all of it."""
    found: list[Streams] = []
    timed(
        "streams",
        lambda: found.append(Streams.of(streams.run(duration, watch.begin, watch.end), streams.case.batch)),
        lambda elapsed_s: None if found else (),
    )
    return found[0] if found else None


def measure_scenario(
    scenario: str, prepared: Prepared, images: Images, terms: Terms, timed: TimedRounds, report: Callable[[str], None]
) -> Scenario | None:
    """One MLPerf scenario. LoadGen holds the clock; the round handed to `timed` is all of it, a search included.

    Args:
        scenario: one of `loadgen.SCENARIOS`.
        prepared: the case.
        images: the samples.
        terms: durations, bound, folder of the logs.
        timed: the clock.
        report: told what is being run.
    """
    found: list[Scenario] = []
    batch = prepared.case.batch
    timed(
        "scenario",
        lambda: found.append(run_scenario(scenario, prepared.runner, batch, images, terms, report)),
        lambda elapsed_s: None if found else (),
    )
    prepared.require_no_recompilation()
    return found[0] if found else None


def measure_parity(prepared: Prepared, timed: TimedRounds) -> Parity:
    """Logits of different images, in batches of the case's size, against fp32 on the CPU eager path."""
    batch = prepared.case.batch
    number = -(-PARITY_IMAGES // batch) * batch
    images = input_images(prepared.spec, number)
    reference = prepared.references.logits(PARITY_IMAGES)
    chunks = [prepared.runner.put(chunk) for chunk in images.split(batch)]
    found: list[Logits] = []
    timed(
        "parity",
        lambda: found.append(answers(prepared.runner, chunks, PARITY_IMAGES)),
        lambda elapsed_s: None if found else (),
    )
    precision = PRECISIONS[prepared.case.precision]
    return Parity(
        sqnr_db=sqnr_db(reference, found[0]),
        sqnr_floor_db=precision.sqnr_floor_db,
        top1_agreement_pct=top1_agreement_pct(reference, found[0]),
        top1_agreement_floor_pct=precision.top1_agreement_floor_pct,
        images=PARITY_IMAGES,
    )


def measure_accuracy(
    prepared: Prepared,
    sample: Sample,
    reference: Callable[[], Answers],
    gate: Gate,
    pool: ThreadPoolExecutor,
    workers: int,
    timed: TimedRounds,
    report: Report,
) -> Judged:
    """One run over the sample, judged: against floors, and against the reference's answers to the same images.

    Args:
        prepared: the case.
        sample: labelled images.
        reference: gives the reference's answers; not asked where the case is the reference.
        gate: what has to hold.
        pool: decodes and preprocesses.
        workers: threads of the pool.
        timed: the clock.
        report: told how far the run is.

    Raises:
        WrongAnswers: logits that are NaN, of another shape or the same for every image.
    """
    transform = build_transform(prepared.spec)
    found: list[Answers] = []
    timed(
        "accuracy",
        lambda: found.append(answer(prepared.runner, transform, sample.images, prepared.case.batch, pool, report)),
        lambda elapsed_s: None if found else (),
    )
    prepared.require_no_recompilation()
    other = None if is_reference(prepared.case) else reference()
    return judge(found[0], other, sample, prepared.spec, gate, workers)
