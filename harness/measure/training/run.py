"""One training run, from its recipe to its record: what is built, the loop, and the files that are written."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import IMAGENET_CLASSES
from harness.devices import Device, open_device
from harness.engines import cannot_train, import_libraries, open_training
from harness.files import whole_file, write_whole
from harness.measure.training.batchnorm import is_folded, norms_of, refit
from harness.measure.training.checkpoint import BEFORE, NAME, kept_layout, set_aside
from harness.measure.training.evaluation import evaluate_saved, state_dict_of
from harness.measure.training.group import Group
from harness.measure.training.loop import evaluated, run_steps
from harness.measure.training.mlperf_log import MlperfLog
from harness.measure.training.optimisation import terms_of
from harness.measure.training.order import TrainingImages, batches, open_images
from harness.measure.training.recipe import Recipe, TrainingError
from harness.measure.training.record import curve_of, parameters_sha256, record_of_run, share_of
from harness.measure.training.state import Course, Moment, Parts, go_on
from harness.measure.training.together import agreement, warm_up
from models.build import Built, build_module, fresh_module
from models.catalog import ModelSpec
from models.checkpoints import WeightsError

WEIGHTS, MLPERF, CURVE = "weights.safetensors", "mlperf.log", "curve.csv"
REFIT_BATCHES = 8


def train(
    recipe: Recipe,
    spec: ModelSpec,
    group: Group,
    report: Callable[[Moment], None] = lambda moment: None,
    tell: Callable[[str], None] = lambda line: None,
    *,
    resumes: bool = False,
) -> dict[str, Any]:
    """Train a model by a recipe, and return the record, JSON-serialisable; that of the first process is whole.

    Args:
        recipe: the recipe.
        spec: the catalogue row of the model.
        group: the processes that train together.
        report: called with the progress.
        tell: called with what a user should know, a line each.
        resumes: whether the run goes on from the checkpoint in the recipe's folder.

    Raises:
        TrainingError: the run cannot begin, or the loss is no number any more; the last checkpoint is kept.
        Contradiction: something other than what the label says ran.
    """
    began_s = time()
    device = open_device(recipe.device)
    if reason := cannot_train(recipe.engine, device, recipe.precision):
        raise TrainingError(reason)
    _require_same_versions(group)
    images = open_images(recipe, group.size)
    if images.dropped:
        tell(f"the last {images.dropped} images of each epoch fill no step, and are left out of it")
    with device.settings(recipe.precision):
        import_libraries(recipe.engine, recipe.precision)
        built = _built(recipe, spec)
        mode = _batch_norm(recipe, built.module, device, group, tell)
        example = next(batches(recipe, spec, images, range(1), group))
        _require_classes(recipe, built.module, example[0])
        if mode == "refit":
            _refit(recipe, spec, images, built.module)
        if mode == "sync":
            built = replace(built, module=nn.SyncBatchNorm.convert_sync_batchnorm(built.module))
        kept = kept_layout(Path(recipe.folder) / NAME) if resumes and group.is_first else None
        terms = terms_of(recipe, group, keeps_batchnorm=mode == "frozen", kept=kept)
        torch.manual_seed(recipe.seed + group.rank)  # what a step draws, such as dropout
        device.reset_peak_memory()
        step = open_training(recipe.engine).build_step(built.module, example, recipe.case, device, terms)
        try:
            parts = Parts(recipe, spec, images, group, step, device, terms.keeps_batchnorm, report, tell)
            return _run(parts, go_on(parts) if resumes else Course(), built, mode, began_s)
        finally:
            step.close()


def _run(parts: Parts, course: Course, built: Built, mode: str, began_s: float) -> dict[str, Any]:
    recipe, group, images = parts.recipe, parts.group, parts.images
    batch = parts.step.put(*next(batches(recipe, parts.spec, images, range(1), group)))
    parts.tell("warming up: one step that changes nothing")
    warmup_s = warm_up(parts.step, batch)
    agreed = agreement(parts.step, batch, group)
    del batch
    if group.is_first:
        parts.folder.mkdir(parents=True, exist_ok=True)
    log = MlperfLog(parts.folder / MLPERF if group.is_first else None, course.position)
    log.begin(recipe, parts.global_batch, len(images.images), len(images.evaluated), began_s)
    before = parameters_sha256(parts.step.module)
    if recipe.evaluates and not course.position:
        course.evaluations.append({"step": 0, "epoch": 0, **evaluated(parts, course).record()})
        course.evaluation_s = 0.0
    if group.is_first and course.saved_at is None and set_aside(parts.folder):
        parts.tell(f"the checkpoint of an earlier run is kept as {parts.folder / BEFORE}")
    group.barrier()
    log.run_start()
    try:
        first_s, last_s = run_steps(parts, course, log)
    except BaseException:
        log.run_stop("aborted")
        raise
    log.run_stop("success" if recipe.stop_threshold is None or course.reached_s is not None else "aborted")
    group.same_buffers(parts.step.module)
    if group.is_first:
        _write(parts, course)
    each = group.gather(share_of(parts, course, first_s, last_s))
    found = record_of_run(parts, course, built, mode, before, each)
    found |= {"gradient_agreement": agreed, "warmup_s": max(group.gather(warmup_s))}
    if recipe.evaluates:
        where = (parts.folder / WEIGHTS, recipe.case, parts.spec, images.evaluated)
        found["evaluation"] = evaluate_saved(*where) if group.is_first else None  # nobody waits for it
    return found


def _write(parts: Parts, course: Course) -> None:
    from safetensors.torch import save

    try:
        with whole_file(parts.folder / WEIGHTS) as part:
            part.write_bytes(save(state_dict_of(parts.step.module)))
        write_whole(parts.folder / CURVE, curve_of(course))
    except OSError as error:
        raise TrainingError(
            f"{parts.folder / WEIGHTS} cannot be written: {error.strerror}; the checkpoint is kept"
        ) from None


def _require_same_versions(group: Group) -> None:
    found = group.gather((platform.node(), str(torch.__version__)))
    if len({version for _, version in found}) > 1:
        listed = ", ".join(f"{node} has torch {version}" for node, version in dict.fromkeys(found))
        raise TrainingError(f"the nodes have different versions: {listed}; install the same on all")


def _built(recipe: Recipe, spec: ModelSpec) -> Built:
    if recipe.weights == "random":
        return fresh_module(spec, recipe.seed)
    try:
        return build_module(spec, recipe.weights if recipe.weights == "pretrained" else Path(recipe.weights))
    except WeightsError as error:
        raise TrainingError(f"--weights {recipe.weights}: {error}") from None


def _require_classes(recipe: Recipe, module: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        classes = int(module(images[:1]).shape[1])
    if classes != IMAGENET_CLASSES:
        raise TrainingError(
            f"{recipe.model} tells {classes} classes apart, and the labels are of {IMAGENET_CLASSES}: take a "
            f"model of as many classes"
        )


def _refit(recipe: Recipe, spec: ModelSpec, images: TrainingImages, module: nn.Module) -> None:
    """Fit the batch norms to the first images of the order, the same in every process."""
    steps = range(min(REFIT_BATCHES, images.per_epoch))
    source = batches(replace(recipe, augments=False), spec, images, steps, Group())
    refit(module, [pixels for pixels, _ in source])


def _batch_norm(recipe: Recipe, module: nn.Module, device: Device, group: Group, tell: Callable[[str], None]) -> str:
    """Return what becomes of the batch norms: `train`, `frozen`, `refit`, `sync`, or `none` where there are none."""
    if recipe.batch_norm == "sync" and (device.is_host or group.size == 1):
        raise TrainingError(
            "--batch-norm sync takes several accelerators: torch's SyncBatchNorm has no CPU form, and one replica has "
            "nothing to share; use --batch-norm train or frozen"
        )
    if not norms_of(module):
        return "none"
    is_given = recipe.weights != "random" and is_folded(module)
    if is_given and recipe.batch_norm in ("auto", "train"):
        what = "stay as they are (frozen)" if recipe.batch_norm == "auto" else "are trained, as asked: a bad start"
        tell(f"the batch norms of {recipe.weights} are folded into its weights; they {what}; see --batch-norm")
    if recipe.batch_norm == "auto":
        return "frozen" if is_given else "train"
    return recipe.batch_norm
