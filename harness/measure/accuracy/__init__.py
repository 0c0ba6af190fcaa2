"""Accuracy: the share of labelled images that a model gets right, and whether that holds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness.measure.accuracy.judge import Accuracy, Gate, Judged, judge, results_csv
from harness.measure.accuracy.kept_answers import kept_answers, reference_case
from harness.measure.accuracy.run import Answers, Sample, answer
from harness.measure.clock import TimedRounds
from harness.progress import ReportShare
from harness.proof import Prepared
from models.tasks import task_of

__all__ = [
    "Accuracy",
    "Answers",
    "Gate",
    "Judged",
    "Sample",
    "answer",
    "kept_answers",
    "measure_accuracy",
    "reference_case",
    "results_csv",
]


def measure_accuracy(
    prepared: Prepared,
    sample: Sample,
    reference: Callable[[], Answers],
    gate: Gate,
    pool: ThreadPoolExecutor,
    workers: int,
    timed: TimedRounds,
    report: ReportShare,
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
        WrongAnswers: outputs that are NaN, of another shape or the same for every image.
    """
    task = task_of(prepared.spec)
    transform = task.transform(prepared.spec)
    batch = prepared.case.images
    found: list[Answers] = []
    timed(
        "accuracy",
        lambda: found.append(answer(prepared.runner, task, transform, sample.images, batch, pool, report)),
        lambda elapsed_s: None if found else (),
    )
    prepared.require_no_recompilation()
    other = None if prepared.case.is_reference else reference()
    return judge(found[0], other, sample, prepared.spec, gate, workers)
