"""Accuracy on a labelled set: what is counted, the reference that a candidate is compared with, and the verdict.

Owns the run over the images and its answers; the statistics are in `thresholds`, the pipeline in `end_to_end`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.end_to_end import Transform, logits_of_files
from harness.engines import Runner
from harness.imagenet import DECODER, IMAGENET_CLASSES, DataSet, ImageFile, class_names, images_sha256
from harness.measurement import Accuracy
from harness.parity import Logits, WrongAnswers
from harness.thresholds import Floor, Paired, Right, Verdict, compare, published_floor, wilson
from models.catalog import ModelSpec

Classes = npt.NDArray[np.int16]

TOP = 5
# Classes that a failing gate names.
WORST_CLASSES = 5
# Logits of different images differ by more than this share of their size, or the model does not look at its input.
LEAST_DIFFERENCE = 1e-4


class Report(Protocol):
    """Told how far a run is."""

    def __call__(self, done: int, total: int, text: str) -> None:
        """So many images of all, and what is known so far."""


@dataclass(frozen=True)
class Sample:
    """The images of a run, and the set that they are of.

    Attributes:
        data: the whole set.
        images: those that are run, in their order.
        seed: of the draw.
    """

    data: DataSet
    images: Sequence[ImageFile]
    seed: int

    def sha256(self) -> str:
        """Which images, in which order."""
        return images_sha256(self.images)


@dataclass(frozen=True)
class Answers:
    """What a model said of the images of a sample.

    Attributes:
        top: [n, 5] class indices, the likeliest first; -1 where the image could not be read.
        unreadable: what was wrong with each file that could not be read.
        wall_s: from before the first file was read until the last class was on the host.
        batches: submitted.
    """

    top: Classes
    unreadable: Sequence[str]
    wall_s: float
    batches: int

    def is_read(self) -> Right:
        """[n], whether each image could be read."""
        is_read: Right = self.top[:, 0] >= 0
        return is_read


def answer(
    runner: Runner,
    transform: Transform,
    images: Sequence[ImageFile],
    batch: int,
    pool: ThreadPoolExecutor,
    report: Report,
) -> Answers:
    """The first five classes of every image, in the images' order.

    Raises:
        WrongAnswers: logits of another shape, NaN or infinite, or the same for every image.
    """
    top = np.full((len(images), TOP), -1, dtype=np.int16)
    unreadable: list[str] = []
    first: Logits | None = None
    differs = len(images) < 2
    right = seen = batches = 0
    began = perf_counter()
    for indices, logits in logits_of_files(
        runner, transform, images, batch, pool, on_unreadable=lambda index, error: unreadable.append(str(error))
    ):
        if logits.shape[1:] != (IMAGENET_CLASSES,):
            raise WrongAnswers(f"logits have shape {logits.shape}; the labels are of {IMAGENET_CLASSES} classes")
        if not np.isfinite(logits).all():
            broken = images[indices[int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])]]
            raise WrongAnswers(f"logits of {broken} are NaN or infinite")
        first = logits[0] if first is None else first
        differs = differs or bool(np.abs(logits - first).max() > LEAST_DIFFERENCE * max(np.abs(first).max(), 1e-12))
        # stable, so that equal logits give the same order on every machine
        top[indices] = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        right += sum(images[index].label == top[index, 0] for index in indices)
        seen += len(indices)
        batches += 1
        report(seen + len(unreadable), len(images), f"top-1 {100 * right / seen:.2f}%")
    wall_s = perf_counter() - began
    if not differs:
        raise WrongAnswers(f"all {seen} images get the same logits: the model does not see its input")
    return Answers(top, tuple(unreadable), wall_s, batches)


@dataclass(frozen=True)
class Gate:
    """What an accuracy has to hold.

    Attributes:
        min_top1_pct: the user's floor, None without.
        min_top5_pct: likewise.
        allow_undecided: whether a paired comparison that cannot tell passes.
        skip_corrupt: whether files that cannot be read are counted instead of failing the test.
    """

    min_top1_pct: float | None = None
    min_top5_pct: float | None = None
    allow_undecided: bool = False
    skip_corrupt: bool = False

    def floors(self, spec: ModelSpec, sample: Sample) -> tuple[Floor | None, Floor | None]:
        """The floors of top-1 and top-5: the user's, else those of the published accuracy on the validation set."""
        given = (self.min_top1_pct, self.min_top5_pct)
        published = (spec.top1_pct, spec.top5_pct) if sample.data.is_validation_set else (None, None)
        found: list[Floor | None] = []
        for name, own, known in zip(("--min-top1", "--min-top5"), given, published, strict=True):
            if own is not None:
                found.append(Floor(own, f"{own:g}% by {name}"))
            elif known is not None:
                found.append(published_floor(known, spec.margin_pct, len(sample.images), len(sample.data.images)))
            else:
                found.append(None)
        return found[0], found[1]


@dataclass(frozen=True)
class Judged:
    """An accuracy with what its record has no room for.

    Attributes:
        accuracy: the record.
        answers: of the candidate.
        worst_classes: those that lost most, in words; empty where the gates hold.
        failures: what does not hold, in words; empty where the test passes.
    """

    accuracy: Accuracy
    answers: Answers
    worst_classes: Sequence[str]
    failures: Sequence[str] = field(default=())


def judge(
    answers: Answers,
    reference: Answers | None,
    sample: Sample,
    spec: ModelSpec,
    gate: Gate,
    workers: int,
) -> Judged:
    """The accuracy of the answers, and what does not hold of it.

    Args:
        answers: of the candidate.
        reference: of the fp32 CPU reference to the same images; None where the candidate is the reference.
        sample: the images.
        spec: the catalogue row.
        gate: what has to hold.
        workers: threads that decoded.

    Raises:
        WrongAnswers: no image could be read.
    """
    is_read = answers.is_read()
    images = int(is_read.sum())
    if not images:
        raise WrongAnswers(f"none of {len(is_read)} images could be read; the first: {answers.unreadable[0]}")
    labels = np.array([image.label for image in sample.images], dtype=np.int16)
    right1, right5 = _right(answers.top, labels)
    top1, top5 = wilson(int(right1[is_read].sum()), images), wilson(int(right5[is_read].sum()), images)
    floor1, floor5 = gate.floors(spec, sample)
    paired: Paired | None = None
    reference1: Right | None = None
    if reference is not None:
        reference1, _ = _right(reference.top, labels)
        paired = compare(reference1[is_read], right1[is_read], spec.margin_pct)

    failures = [
        f"{name} {measured} is below the floor {floor.pct:.2f}% ({floor.terms})"
        for name, measured, floor in (("top-1", top1, floor1), ("top-5", top5, floor5))
        if floor is not None and measured.pct < floor.pct
    ]
    absolute: Verdict = "not gated" if floor1 is None and floor5 is None else "fails" if failures else "holds"
    if paired is not None and (
        paired.verdict == "fails" or (paired.verdict == "cannot tell" and not gate.allow_undecided)
    ):
        failures.append(f"top-1 {top1}: {paired}")
    worst = _worst_classes(labels, right1, reference1, is_read) if failures else []
    if answers.unreadable and not gate.skip_corrupt:
        failures.append(
            f"{len(answers.unreadable)} files cannot be read (--skip-corrupt counts them instead): "
            + "; ".join(answers.unreadable[:WORST_CLASSES])
        )
    accuracy = Accuracy(
        top1=top1,
        top5=top5,
        absolute=absolute,
        top1_floor=floor1,
        top5_floor=floor5,
        paired=paired,
        images=images,
        unreadable_images=len(answers.unreadable),
        images_in_data=len(sample.data.images),
        images_per_second=len(is_read) / answers.wall_s,
        wall_s=answers.wall_s,
        mean_batch_interval_ms=1e3 * answers.wall_s / answers.batches,
        data=sample.data.name,
        data_route=sample.data.route,
        is_validation_set=sample.data.is_validation_set,
        sample_seed=sample.seed,
        sample_sha256=sample.sha256(),
        decoder=DECODER,
        workers=workers,
    )
    return Judged(accuracy, answers, worst, failures)


def _right(top: Classes, labels: npt.NDArray[np.int16]) -> tuple[Right, Right]:
    """[n] each: whether the label is the first class, and whether it is among the first five."""
    hits = top == labels[:, None]
    return hits[:, 0], hits.any(axis=1)


def _worst_classes(labels: npt.NDArray[np.int16], right: Right, reference: Right | None, is_read: Right) -> list[str]:
    """The classes that lost most images: against the reference, else against all of them being right."""
    before = np.ones_like(right) if reference is None else reference
    lost: Counter[int] = Counter()
    for label, was, now in zip(labels[is_read], before[is_read], right[is_read], strict=True):
        lost[int(label)] += int(was) - int(now)
    total = Counter(int(label) for label in labels[is_read])
    worst = sorted((label for label in lost if lost[label] > 0), key=lambda label: (-lost[label], label))
    return [f"{class_names()[label]}: {lost[label]} of {total[label]} lost" for label in worst[:WORST_CLASSES]]


def results_csv(sample: Sample, answers: Answers) -> str:
    """`filename,actual,prediction`, a line an image that could be read: class indices 0 to 999."""
    lines = ["filename,actual,prediction"]
    for image, top in zip(sample.images, answers.top, strict=True):
        if top[0] >= 0:
            name = f'"{image.name}"' if "," in image.name else image.name
            lines.append(f"{name},{image.label},{top[0]}")
    return "\n".join(lines) + "\n"
