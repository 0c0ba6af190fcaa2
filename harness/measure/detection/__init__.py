"""The accuracy of detectors: how well the objects that they find match those that COCO's annotations mark."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from harness.measure.accuracy.judge import Gate
from harness.measure.accuracy.run import Sample
from harness.measure.clock import TimedRounds
from harness.measure.detection.judge import JudgedObjects, judge_objects
from harness.measure.detection.run import Found, find
from harness.progress import ReportPhase, ReportShare, no_report
from harness.proof import Prepared
from models.tasks import task_of


def measure_objects(
    prepared: Prepared,
    sample: Sample,
    reference: Callable[[], Found],
    gate: Gate,
    pool: ThreadPoolExecutor,
    workers: int,
    timed: TimedRounds,
    report: ReportShare,
    report_phase: ReportPhase = no_report,
) -> JudgedObjects:
    """Run the detector over the sample once, and judge what it found against floors and against the reference.

    The evaluation is outside the clock.

    Args:
        prepared: the case.
        sample: the annotated images.
        reference: returns what the reference finds in the same images; not called if the case is the reference.
        gate: what the average precision has to satisfy.
        pool: the threads that decode and preprocess.
        workers: the number of threads in the pool.
        timed: the clock.
        report: called with the progress of the run.
        report_phase: called before the evaluation.

    Raises:
        WrongAnswers: the outputs are not finite, or the results show a known mistake.
        Contradiction: a graph was compiled during the run.
    """
    objects = sample.data.objects
    assert objects is not None, "the images are not annotated"
    task = task_of(prepared.spec)
    transform = task.transform(prepared.spec)
    found: list[Found] = []
    timed(
        "coco",
        lambda: found.append(
            find(prepared.runner, task, transform, sample.images, objects, prepared.case.images, pool, report)
        ),
        lambda elapsed_s: None if found else (),
    )
    prepared.require_no_recompilation()
    other = None if prepared.case.is_reference else reference()
    report_phase(f"evaluating {found[0].count():,} detections")
    return judge_objects(found[0], other, sample, prepared.spec, gate, workers)
