"""Judging an accuracy: the record, the conditions that it has to satisfy, and those that it fails."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from harness.data import DECODER, class_names
from harness.measure.accuracy.run import Answers, Sample
from harness.measure.accuracy.thresholds import (
    Floor,
    Interval,
    Paired,
    Right,
    Verdict,
    compare,
    published_floor,
    wilson,
)
from models.catalog import ModelSpec
from models.tasks import WrongAnswers, task_of

# The number of classes or categories, and of files, that the message of a failing gate names.
WORST = 5


@dataclass(frozen=True)
class Accuracy:
    """The top-1 and top-5 accuracy on labelled images, and how it was judged.

    Attributes:
        top1: the percentage of images whose label is the first answer, with its 95% interval.
        top5: the percentage of images whose label is among the first five answers, with its 95% interval.
        absolute: whether both reach their floors; `not gated` if there is no floor.
        top1_floor: the floor of top-1 and how it was derived, None without a floor.
        top5_floor: the floor of top-5 and how it was derived, None without a floor.
        paired: the comparison with the fp32 CPU reference on the same images; None if this is the reference.
        images: the number of images that were read and answered.
        unreadable_images: the number of files that could not be decoded and were left out.
        images_in_data: the number of images in the whole data set.
        images_per_second: the rate from files to classes: all files of the sample over wall time.
        wall_s: the wall time of the run over the images, in seconds.
        mean_batch_interval_ms: the wall time divided by the number of batches, in milliseconds; because decoding and
            the model overlap, it is not a latency.
        data: the name of the data set, as the user gave it.
        data_route: how the data set was read.
        is_validation_set: whether the data set was recognised as the whole ILSVRC2012 validation set.
        sample_seed: the seed of the random draw of the sample.
        sample_sha256: a hash of which images were used, in which order.
        answers_sha256: a hash of the ranked classes of every image: the same where all answers are.
        right_base64: which images are right at the first answer, one bit each in the order of the sample, the first in
            the highest bit, as base64. A file that could not be read is not.
        decoder: the name and version of the decoding library.
        workers: the number of threads that decoded.
    """

    kind: ClassVar[str] = "accuracy"

    top1: Interval
    top5: Interval
    absolute: Verdict
    top1_floor: Floor | None
    top5_floor: Floor | None
    paired: Paired | None
    images: int
    unreadable_images: int
    images_in_data: int
    images_per_second: float
    wall_s: float
    mean_batch_interval_ms: float
    data: str
    data_route: str
    is_validation_set: bool
    sample_seed: int
    sample_sha256: str
    answers_sha256: str
    right_base64: str
    decoder: str
    workers: int


@dataclass(frozen=True)
class Gate:
    """The conditions that an accuracy has to satisfy.

    Attributes:
        min_top1_pct: the user's floor of top-1 in percent, None if none is given.
        min_top5_pct: the user's floor of top-5 in percent, None if none is given.
        allow_undecided: whether a paired comparison passes that does not decide (verdict `cannot tell`).
        skip_corrupt: whether files that cannot be read are only counted and do not fail the test.
        min_map_pct: the user's floor of a detector's AP in percent, None if none is given.
        min_map50_pct: the user's floor of its AP50 in percent, None if none is given.
    """

    min_top1_pct: float | None = None
    min_top5_pct: float | None = None
    allow_undecided: bool = False
    skip_corrupt: bool = False
    min_map_pct: float | None = None
    min_map50_pct: float | None = None

    def floors(self, spec: ModelSpec, sample: Sample) -> tuple[Floor | None, Floor | None]:
        """Return the floors of top-1 and top-5, None where there is none.

        The user's floor takes precedence. Otherwise, if the data set is the validation set, the floor comes from the
        published accuracy.
        """
        scores = spec.published if sample.data.is_validation_set else {}
        own1 = None if self.min_top1_pct is None else Floor(self.min_top1_pct, "by --min-top1")
        own5 = None if self.min_top5_pct is None else Floor(self.min_top5_pct, "by --min-top5")
        return floor_of(own1, scores.get("top1"), spec, sample), floor_of(own5, scores.get("top5"), spec, sample)

    def denies(self, verdict: Verdict) -> bool:
        """Return whether a paired comparison with this verdict fails the test."""
        return verdict == "fails" or (verdict == "cannot tell" and not self.allow_undecided)

    def unreadable(self, files: Sequence[str]) -> list[str]:
        """Return the condition that fails where files cannot be read, each given by its error message."""
        if not files or self.skip_corrupt:
            return []
        return [f"{len(files)} files cannot be read (--skip-corrupt counts them instead): " + "; ".join(files[:WORST])]


def floor_of(own: Floor | None, published_pct: float | None, spec: ModelSpec, sample: Sample) -> Floor | None:
    """Return the floor of a score: the user's, else that of the published score, None if there is neither.

    Args:
        own: the user's floor, None if none is given.
        published_pct: the published score in percent, None where it is none for these images.
        spec: the catalogue row of the model.
        sample: the images.
    """
    if own is not None or published_pct is None:
        return own
    return published_floor(published_pct, spec.margin_pct, len(sample.images), len(sample.data.images))


def below_floors(scores: Sequence[tuple[str, Interval, Floor | None]]) -> tuple[Verdict, list[str]]:
    """Return whether named scores reach their floors, and which do not; `not gated` if none has a floor."""
    gated = [(name, measured, floor) for name, measured, floor in scores if floor is not None]
    failures = [
        f"{name} {measured} is below the floor {floor.pct:.2f}% ({floor.terms})"
        for name, measured, floor in gated
        if measured.pct < floor.pct
    ]
    return ("not gated" if not gated else "fails" if failures else "holds"), failures


@dataclass(frozen=True)
class Judged:
    """An accuracy together with details that are not part of its record.

    Attributes:
        accuracy: the record.
        answers: the answers of the candidate.
        worst_classes: descriptions of the classes that lost most images; empty if the gates hold.
        failures: descriptions of the conditions that do not hold; empty if the test passes.
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
    """Compute the accuracy of the answers, and find the conditions that it fails.

    Args:
        answers: the answers of the candidate.
        reference: the fp32 CPU reference's answers to the same images; None if the candidate is the reference.
        sample: the images.
        spec: the catalogue row of the model.
        gate: the conditions that the accuracy has to satisfy.
        workers: the number of threads that decoded.

    Raises:
        WrongAnswers: no image could be read, or the reference could not read one that the candidate did.
    """
    is_read = answers.is_read()
    images = int(is_read.sum())
    if not images:
        raise WrongAnswers(f"none of {len(is_read)} images could be read; the first: {answers.unreadable[0]}")
    labels = np.array([image.label for image in sample.images], dtype=np.int16)
    task = task_of(spec)
    scores = task.score(answers.top, labels)
    right1, right5 = scores["top1"], scores["top5"]
    top1, top5 = wilson(int(right1[is_read].sum()), images), wilson(int(right5[is_read].sum()), images)
    floor1, floor5 = gate.floors(spec, sample)
    paired: Paired | None = None
    reference1: Right | None = None
    if reference is not None:
        if lacking := int((is_read & ~reference.is_read()).sum()):
            raise unread_by_reference(lacking, reference.unreadable)
        reference1 = task.score(reference.top, labels)["top1"]
        is_identical = np.array_equal(reference.top[is_read], answers.top[is_read])
        paired = compare(reference1[is_read], right1[is_read], spec.margin_pct, is_identical=is_identical)

    absolute, failures = below_floors((("top-1", top1, floor1), ("top-5", top5, floor5)))
    if paired is not None and gate.denies(paired.verdict):
        failures.append(f"top-1 {top1}: {paired}")
    worst = _worst_classes(labels, right1, reference1, is_read) if failures else []
    failures += gate.unreadable(answers.unreadable)
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
        answers_sha256=hashlib.sha256(np.ascontiguousarray(answers.top).tobytes()).hexdigest(),
        right_base64=base64.b64encode(np.packbits(right1 & is_read).tobytes()).decode(),
        decoder=DECODER,
        workers=workers,
    )
    return Judged(accuracy, answers, worst, failures)


def unread_by_reference(images: int, unreadable: Sequence[str]) -> WrongAnswers:
    """Return the error for images that the reference could not read and the candidate did.

    As wrong answers of the reference they would stand for images that the candidate has won.
    """
    return WrongAnswers(
        f"the fp32 CPU reference could not read {images} images that this case read, so that nothing can be compared; "
        f"run it again, for the reference is then computed anew; the first: {unreadable[0] if unreadable else 'none'}"
    )


def _worst_classes(labels: npt.NDArray[np.int16], right: Right, reference: Right | None, is_read: Right) -> list[str]:
    """Describe the classes that lost most images, compared with the reference, or with all correct if it is None."""
    before = np.ones_like(right) if reference is None else reference
    lost: Counter[int] = Counter()
    for label, was, now in zip(labels[is_read], before[is_read], right[is_read], strict=True):
        lost[int(label)] += int(was) - int(now)
    total = Counter(int(label) for label in labels[is_read])
    worst = sorted((label for label in lost if lost[label] > 0), key=lambda label: (-lost[label], label))
    return [f"{class_names()[label]}: {lost[label]} of {total[label]} lost" for label in worst[:WORST]]


def results_csv(sample: Sample, answers: Answers) -> str:
    """Return a CSV with the columns `filename,actual,prediction` and a line for each image that could be read.

    Classes are given as indices from 0 to 999.
    """
    lines = ["filename,actual,prediction"]
    for image, top in zip(sample.images, answers.top, strict=True):
        if top[0] >= 0:
            name = f'"{image.name}"' if "," in image.name else image.name
            lines.append(f"{name},{image.label},{top[0]}")
    return "\n".join(lines) + "\n"
