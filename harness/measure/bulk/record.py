"""The record of a bulk run: all images over one common window, what each worker gave to it, and what held it up."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.data import DECODER, IMAGENET_CLASSES, ImageFile
from harness.measure.bulk.shifts import HandedOut, Shift
from harness.measure.throughput import rate_of

# A worker that does less than this share of what the others do while it works is named as slow.
SLOW_BELOW_PCT = 75
INTERVALS = 10


@dataclass(frozen=True)
class Bulk:
    """All images of a data set, answered by several workers in one common window.

    The window lasts from when the first block is given away until the last answers are written; it is taken on one
    clock, that of the process which hands out the blocks. `images_per_second` is the images that were answered in it,
    without those that could not be read, over its wall time; the 95% interval is over equal intervals of the window,
    and null with fewer than five blocks a worker. `decode_pct` is the share of the workers' time in which they waited
    for decoded images, `copy_pct` that of copying them to the device, `model_pct` that of the model, `idle_pct` that of
    having no block; `bound` names the largest. `each` has the same for each worker, with its rate over the common
    window, so that the rates add up, and its rate while it worked. `lost` has the workers that died, `repeated_images`
    what they had been handed and others did, `short_handed_s` the time in which one was missing. `kept_images` were
    answered by an earlier run that this one resumed; they are in `predictions` and in the accuracy, and not in the
    rate.
    """

    kind: ClassVar[str] = "bulk"

    images_per_second: float
    images_per_second_low: float | None
    images_per_second_high: float | None
    images: int
    wall_s: float
    batches: int
    workers: int
    launcher: str
    nodes: tuple[str, ...]
    blocks: int
    images_per_block: int
    batches_per_step: int
    decoders: int
    decoder: str
    data: str
    unique_images: int
    kept_images: int
    predictions: int
    labelled_images: int
    top1_pct: float | None
    top1_note: str | None
    unreadable_images: int
    decode_pct: float
    copy_pct: float
    model_pct: float
    idle_pct: float
    bound: str
    each: tuple[dict[str, Any], ...]
    slow_workers: tuple[str, ...]
    lost: tuple[dict[str, Any], ...]
    repeated_images: int
    short_handed_s: float
    folder: str


def bulk_of(
    handed: HandedOut, files: Sequence[ImageFile], predictions: Sequence[str], about: Mapping[str, Any]
) -> Bulk:
    """Return the record of a run.

    Args:
        handed: how the blocks were handed out.
        files: all images of the data set.
        predictions: the answer to each of them, as it is on disk.
        about: the fields of the record that the run does not show, and `batch`, `labels` (how many the model tells
            apart) and `is_random` (whether its weights are).
    """
    wall_s = handed.ended_s - handed.began_s
    turns = [turn for shift in handed.shifts for turn in shift.turns]
    images = sum(turn.run.answered for turn in turns)
    each = [_of_worker(shift, wall_s) for shift in handed.shifts]
    shares = _shares(handed.shifts)
    counts = _interval_images(handed)
    interval = rate_of(counts, [wall_s / len(counts)] * len(counts))
    labelled, right = top1_of(files, predictions)
    note = _why_no_top1(about, labelled)
    fields = {key: value for key, value in about.items() if key not in ("batch", "labels", "is_random")}
    return Bulk(
        images_per_second=images / wall_s,
        images_per_second_low=interval["images_per_second_low"],
        images_per_second_high=interval["images_per_second_high"],
        images=images,
        wall_s=wall_s,
        batches=sum(-(-turn.run.answered // about["batch"]) for turn in turns),
        blocks=len(turns),
        decoder=DECODER,
        unique_images=len(files),
        kept_images=len(files) - sum(turn.size for turn in turns),
        predictions=len(predictions),
        labelled_images=labelled,
        top1_pct=None if note else 100 * right / labelled,
        top1_note=note,
        unreadable_images=sum(not prediction for prediction in predictions),
        decode_pct=shares["decode_pct"],
        copy_pct=shares["copy_pct"],
        model_pct=shares["model_pct"],
        idle_pct=shares["idle_pct"],
        bound=max(shares, key=lambda share: shares[share]).removesuffix("_pct"),
        each=tuple(each),
        slow_workers=slow_workers(each),
        lost=tuple(
            {
                "worker": loss.worker,
                "reason": loss.reason,
                "after_s": loss.at_s - handed.began_s,
                "images": loss.size,
                "replaced_after_s": None if loss.replaced_s is None else loss.replaced_s - loss.at_s,
            }
            for loss in handed.losses
        ),
        repeated_images=sum(loss.size for loss in handed.losses),
        short_handed_s=sum((loss.replaced_s or handed.ended_s) - loss.at_s for loss in handed.losses),
        **fields,
    )


def _of_worker(shift: Shift, wall_s: float) -> dict[str, Any]:
    images = sum(turn.run.answered for turn in shift.turns)
    busy_s = sum(turn.run.busy_s for turn in shift.turns)
    return {
        "name": shift.name,
        "where": shift.where,
        "images": images,
        "blocks": len(shift.turns),
        "images_per_second": images / wall_s,
        "busy_images_per_second": images / busy_s if busy_s else None,
        "busy_s": busy_s,
        "present_s": shift.until_s - shift.from_s,
        **_shares([shift]),
    }


def _shares(shifts: Sequence[Shift]) -> dict[str, float]:
    """Return how the workers spent the time that they were there, in per cent."""
    runs = [turn.run for shift in shifts for turn in shift.turns]
    busy_s, copy_s = sum(run.busy_s for run in runs), sum(run.copy_s for run in runs)
    model_s = sum(run.model_s for run in runs)
    present_s = max(sum(shift.until_s - shift.from_s for shift in shifts), busy_s, 1e-9)
    parts = {"decode": busy_s - copy_s - model_s, "copy": copy_s, "model": model_s, "idle": present_s - busy_s}
    return {f"{part}_pct": 100 * part_s / present_s for part, part_s in parts.items()}


def slow_workers(each: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of the workers that were much slower than the others while they worked."""
    found = []
    for one in each:
        others = [other["busy_images_per_second"] for other in each if other is not one]
        rates = [rate for rate in others if rate is not None]
        rate = one["busy_images_per_second"]
        if rate is not None and rates and rate < SLOW_BELOW_PCT / 100 * statistics.median(rates):
            found.append(str(one["name"]))
    return tuple(found)


def _interval_images(handed: HandedOut) -> list[float]:
    """Return how many images were answered in each of some equal intervals of the window.

    A block that spans several counts in each by the share of its time. There are intervals only where each worker has
    five blocks; else the window is one.
    """
    turns = [turn for shift in handed.shifts for turn in shift.turns]
    most = len(turns) // max(1, len(handed.shifts))
    number = min(INTERVALS, most) if most >= 5 else 1
    length_s = (handed.ended_s - handed.began_s) / number
    counts = [0.0] * number
    for turn in turns:
        span_s = max(turn.done_s - turn.given_s, 1e-9)
        for index in range(number):
            begin_s = handed.began_s + index * length_s
            within_s = min(turn.done_s, begin_s + length_s) - max(turn.given_s, begin_s)
            counts[index] += turn.run.answered * max(0.0, within_s) / span_s
    return counts


def top1_of(files: Sequence[ImageFile], predictions: Sequence[str]) -> tuple[int, int]:
    """Return how many of the images that were read have a label, and how many of those are classified correctly."""
    labelled = [
        (str(file.label), found)
        for file, found in zip(files, predictions, strict=True)
        if file.label is not None and found
    ]
    return len(labelled), sum(label == found for label, found in labelled)


def _why_no_top1(about: Mapping[str, Any], labelled: int) -> str | None:
    if about["is_random"]:
        return "weights are random: their classes mean nothing"
    if about["labels"] != IMAGENET_CLASSES:
        return f"the model has {about['labels']} classes, not the labels' {IMAGENET_CLASSES}"
    return None if labelled else "no labels: the folders are no wnids"
