"""Accuracy: the share of labelled images that a model classifies correctly, and whether that share is good enough."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness.measure.accuracy.judge import Accuracy, Gate, Judged, judge, results_csv
from harness.measure.accuracy.kept_answers import kept_answers, reference_case
from harness.measure.accuracy.run import Answers, Sample, answer
from harness.measure.clock import TimedRounds
from harness.progress import ReportShare
from harness.proof import Prepared, case_pixels
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
    """Run the model over the sample once, and judge its accuracy against floors and against the reference's answers.

    Args:
        prepared: the case.
        sample: the labelled images.
        reference: returns the reference's answers to the same images; not called if the case is the reference.
        gate: what the accuracy has to satisfy.
        pool: the threads that decode and preprocess.
        workers: the number of threads in the pool.
        timed: the clock.
        report: called with the progress of the run.

    Raises:
        WrongAnswers: the outputs are not finite, have another shape, or are the same for every image.
        Contradiction: a graph was compiled during the run.
    """
    task = task_of(prepared.spec)
    transform = case_pixels(prepared.case, prepared.spec)
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
