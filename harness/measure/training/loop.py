"""The loop of a training run: steps, the reading of losses, evaluations and checkpoints, until the run ends."""

from __future__ import annotations

import math
from time import perf_counter

from harness.measure.training import checkpoint
from harness.measure.training.evaluation import RightCount, evaluate
from harness.measure.training.mlperf_log import MlperfLog
from harness.measure.training.optimisation import schedule_of
from harness.measure.training.order import batches
from harness.measure.training.recipe import TrainingError
from harness.measure.training.state import Course, Moment, Parts, save

# On an accelerator, reading a loss waits for the device, so it is read no more often than this.
READ_LOSS_EVERY_S = 1.0


def run_steps(parts: Parts, course: Course, log: MlperfLog) -> tuple[float, float]:
    """Run until the steps are done or the threshold is reached, and return when the clock began and ended, in seconds.

    A run that goes on after it has reached the threshold takes no further step.

    Raises:
        TrainingError: a loss is no number, an image cannot be read, or a checkpoint cannot be written.
    """
    if course.reached_s is not None:
        return (now := perf_counter()), now
    recipe, step, per_epoch = parts.recipe, parts.step, parts.images.per_epoch
    scheduler = schedule_of(recipe, step.optimiser, per_epoch)
    source = batches(recipe, parts.spec, parts.images, range(course.position, parts.steps), parts.group)
    began = read_at = perf_counter()
    for number in range(course.position, parts.steps):
        epoch = number // per_epoch + 1
        if number % per_epoch == 0:
            log.epoch(epoch, begins=True)
        scheduler.step_update(number)
        course.had_rate = course.had_rate or any(one["lr"] > 0 for one in step.optimiser.param_groups)
        course.pending.append(step.submit(step.put(*next(source))))
        course.position = number + 1
        ends_epoch = course.position % per_epoch == 0
        if ends_epoch:
            log.epoch(epoch, begins=False)
        is_due = ends_epoch if recipe.save_every is None else course.position % recipe.save_every == 0
        saves, evaluates = is_due or course.position == parts.steps, ends_epoch and is_evaluated(parts, epoch)
        now = perf_counter()
        if parts.device.is_host or saves or evaluates or now - read_at > READ_LOSS_EVERY_S:
            read_at = now
            read_losses(parts, course)
            parts.report(moment(parts, course, perf_counter() - began))
        if evaluates:
            log.evaluation(epoch, None)
            right = evaluated(parts, course)
            log.evaluation(epoch, right.right / right.images)
            course.evaluations.append({"step": course.position, "epoch": epoch, **right.record()})
            parts.tell(f"epoch {epoch}: top-1 {100 * right.right / right.images:.2f}% of {right.images:,} images")
            if right.reaches(recipe.stop_threshold):
                course.reached_s = perf_counter() - began
        if saves or course.reached_s is not None:
            before = perf_counter()
            save(parts, course, before - began)
            course.checkpoint_s += perf_counter() - before
        if course.reached_s is not None:
            break
    return began, perf_counter()


def is_evaluated(parts: Parts, epoch: int) -> bool:
    """Return whether the model is evaluated after this epoch, counted from 1."""
    between = parts.recipe.epochs_between_evals
    return parts.recipe.stop_threshold is not None if between is None else epoch % between == 0


def evaluated(parts: Parts, course: Course) -> RightCount:
    """Evaluate the model as it is.

    Raises:
        TrainingError: an image cannot be read.
    """
    began = perf_counter()
    try:
        found = evaluate(
            *(parts.step, parts.recipe.case, parts.device, parts.spec, parts.images.evaluated, parts.group),
            keeps_batchnorm=parts.keeps_batchnorm,
        )
    except OSError as error:
        raise TrainingError(str(error)) from None
    course.evaluation_s += perf_counter() - began
    return found


def moment(parts: Parts, course: Course, elapsed_s: float) -> Moment:
    """Return how far the run is after so many seconds."""
    spent_s = elapsed_s - course.evaluation_s - course.checkpoint_s
    step_s = max(spent_s, 1e-9) / (course.position - course.began_at)
    left_s = (parts.steps - course.position) * step_s
    return Moment(course.position, parts.steps, course.losses[-1], parts.global_batch / step_s, left_s)


def read_losses(parts: Parts, course: Course) -> None:
    """Read the losses of the steps since the last time, and stop at the first that is no number.

    Raises:
        TrainingError: a loss is no number; the message says the step, and the checkpoint that is kept.
    """
    parts.step.synchronize()
    for loss in course.pending:
        value = float(loss)
        if not math.isfinite(value):
            kept = f"the checkpoint of step {course.saved_at} is kept in {parts.folder / checkpoint.NAME}"
            raise TrainingError(
                f"the loss is {value} at step {len(course.losses) + 1}; "
                f"{kept if course.saved_at is not None else 'there is no checkpoint yet'}; lower --learning-rate, or "
                f"raise --warmup-epochs"
            )
        course.losses.append(value)
    course.pending.clear()
