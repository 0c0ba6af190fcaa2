"""The arguments of `visionmark train`, read into a recipe and into how it is run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands.train.foreign import describe_unknown
from harness.artefacts import default_folder
from harness.cases import PRECISIONS
from harness.devices import device_names, open_device
from harness.engines import engine_names
from harness.files import RESULTS
from harness.host.cores import threads_in
from harness.measure.training.recipe import BATCH_NORMS, SCHEDULES, Recipe
from models.catalog import ModelSpec, UnknownModel, find_spec, load_catalog
from models.other_names import OTHER_NAMES


@dataclass(frozen=True)
class TrainingOrder:
    """What is asked of the command.

    Attributes:
        recipe: the recipe.
        spec: the catalogue row of the model.
        resumes: whether the run goes on from its checkpoint.
        replicas: the processes of this machine that train together.
        nodes: the machines that train together.
        rendezvous: HOST:PORT where they meet, None for one machine.
        max_restarts: how often a run whose process died begins again from its checkpoint.
        threads: the threads of one replica, None for its share of the physical cores.
    """

    recipe: Recipe
    spec: ModelSpec
    resumes: bool
    replicas: int
    nodes: int
    rendezvous: str | None
    max_restarts: int
    threads: int | None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(prog="visionmark train", allow_abbrev=False, description=__doc__)
    what = made.add_argument_group("what is trained")
    what.add_argument("--model", required=True, help="a name of the catalogue, timm:NAME or torchvision:NAME")
    what.add_argument("--weights", default="random", help="random (as the library initialises), pretrained or a file")
    what.add_argument("--data", required=True, help="labelled images; where it has a folder train, those")
    what.add_argument("--eval-data", help="images to evaluate on; default: val beside train, else those trained on")
    what.add_argument("--labels", help="a CSV of image names and classes, where folders are no wnids")
    what.add_argument("--class-folders", choices=("wnid", "index"), default="wnid")
    what.add_argument("--num-inputs", type=_count, help="train on so many of the images, a sample over the classes")
    how = made.add_argument_group("how it is computed")
    how.add_argument("--device", default="cpu", help=", ".join(device_names()))
    how.add_argument("--precision", default="fp32", choices=tuple(PRECISIONS))
    how.add_argument("--engine", default="eager", choices=engine_names())
    how.add_argument("--batch-size", type=_count, default=64, help="images of one replica in one step; default: 64")
    how.add_argument("--threads", type=_count, help="threads of one replica; default: OMP_NUM_THREADS, or its cores")
    how.add_argument("--num-workers", type=_natural, default=0, help="processes of a replica that read images")
    how.add_argument("--seed", type=_natural, default=0)
    long = made.add_argument_group("how long")
    long.add_argument("--steps", type=_count, help="a trial run of so many steps")
    long.add_argument("--train-epochs", type=_count, default=90, help="the schedule's length too; default: 90")
    long.add_argument("--epochs-between-evals", type=_count, help="default: 1 with --stop-threshold, else none")
    long.add_argument("--stop-threshold", type=_share, help="end at this share of right images, such as 0.759")
    long.add_argument("--eval", action="store_true", help="evaluate before, and the saved weights in the end")
    recipe = made.add_argument_group("the recipe")
    recipe.add_argument("--learning-rate", type=_not_negative, help="default: 0.128 x global batch / 256")
    recipe.add_argument("--fine-tune", action="store_true", help="a base rate of 0.1 instead of 0.128")
    recipe.add_argument("--schedule", choices=SCHEDULES, default="cosine")
    recipe.add_argument("--warmup-epochs", type=_not_negative, default=5.0, help="default: 5")
    recipe.add_argument("--momentum", type=_not_negative, default=0.9)
    recipe.add_argument("--weight-decay", type=_not_negative, default=1e-4, help="not of biases and norms; 1e-4")
    recipe.add_argument("--label-smoothing", type=_share, default=0.0)
    recipe.add_argument("--batch-norm", choices=BATCH_NORMS, default="auto")
    recipe.add_argument("--no-augment", action="store_true", help="prepare images as for evaluation")
    several = made.add_argument_group("several processes")
    several.add_argument("--replicas", type=_count, default=1, help="processes on this machine, or devices of it")
    several.add_argument("--nodes", type=_count, default=1, help="machines; each of them runs this command")
    several.add_argument("--rendezvous", metavar="HOST:PORT", help="where the machines meet: one of them")
    several.add_argument("--max-restarts", type=_natural, default=0, help="go on from the checkpoint if one dies")
    kept = made.add_argument_group("what is kept")
    kept.add_argument("--output-dir", help="default: results/train/MODEL")
    kept.add_argument("--save-every", type=_count, help="a checkpoint after so many steps; default: every epoch")
    kept.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    kept.add_argument("--cache-dir", help="where data is kept that has to be fetched")
    return made


def read_order(arguments: Sequence[str]) -> TrainingOrder:
    """Return what is asked. What is wrong ends the process with exit status 2 and a line that says what."""
    made = parser()
    try:
        if told := describe_unknown(arguments, made.format_usage()):
            made.error(told)  # before argparse complains of options that are missing because they are spelt so
        given = made.parse_args(arguments)
        threads = given.threads or threads_in(os.environ.get("OMP_NUM_THREADS", ""), "OMP_NUM_THREADS")
        spec = find_spec(OTHER_NAMES.get(given.model, given.model), load_catalog())
        if reason := open_device(given.device).available():
            made.error(f"no {given.device} device ({reason}); present is cpu")
        if spec.task != "classify":
            made.error(f"--model {given.model} is a detector, which learns from boxes: give a classifier")
    except (UnknownModel, ValueError) as error:
        made.error(str(error))
    if given.weights not in ("random", "pretrained") and not Path(given.weights).expanduser().is_file():
        made.error(f"--weights {given.weights}: no such file; give a file, random or pretrained")
    if (given.nodes > 1) != (given.rendezvous is not None):
        made.error("--nodes and --rendezvous HOST:PORT go together: give both, or neither")
    if given.max_restarts and given.replicas * given.nodes == 1:
        made.error("--max-restarts is of several processes: add --replicas N, or start a run again with --resume")
    folder = Path(given.output_dir or RESULTS / "train" / spec.name.replace(":", "_")).expanduser().resolve()
    recipe = Recipe(
        model=spec.name,
        data=given.data,
        folder=str(folder),
        cache_dir=str(Path(given.cache_dir).expanduser().resolve() if given.cache_dir else default_folder()),
        weights=given.weights
        if given.weights in ("random", "pretrained")
        else str(Path(given.weights).expanduser().resolve()),
        eval_data=given.eval_data,
        labels=given.labels,
        is_numbered=given.class_folders == "index",
        device=given.device,
        precision=given.precision,
        engine=given.engine,
        batch=given.batch_size,
        num_inputs=given.num_inputs,
        steps=given.steps,
        train_epochs=given.train_epochs,
        epochs_between_evals=given.epochs_between_evals,
        stop_threshold=given.stop_threshold,
        evaluates=given.eval,
        learning_rate=given.learning_rate,
        fine_tune=given.fine_tune,
        schedule=given.schedule,
        warmup_epochs=given.warmup_epochs,
        momentum=given.momentum,
        weight_decay=given.weight_decay,
        label_smoothing=given.label_smoothing,
        batch_norm=given.batch_norm,
        augments=not given.no_augment,
        seed=given.seed,
        loaders=given.num_workers,
        save_every=given.save_every,
    )
    return TrainingOrder(
        recipe,
        spec,
        given.resume,
        given.replicas,
        given.nodes,
        given.rendezvous,
        given.max_restarts,
        threads,
    )


def _count(text: str) -> int:
    return _whole(text, 1)


def _natural(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least {least}")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := _not_negative(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1, such as 0.759")
    return value
