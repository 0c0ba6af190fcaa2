"""Checks that every image file gets the same class through the server as from the model in process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar

import numpy as np
import torch

from harness.data import IMAGENET_CLASSES, ImageFile, decode
from harness.devices.cpu import Cpu
from harness.measure.clock import TimedRounds
from harness.proof import case_pixels
from harness.triton.answers import require_own_answers, rows_of_outputs
from harness.triton.clients import Traffic
from harness.triton.closed_loop import Clients, WantsMore
from harness.triton.host import ServedModel
from models.tasks import Outputs, task_of
from models.tasks.classify import Logits
from models.tasks.detections import Detections

CHUNK = 16  # larger chunks allocate memory anew for every batch
TRAFFIC = Traffic("grpc", "async", 8)


@dataclass(frozen=True)
class Photographs:
    """How many image files get the same first class through the server as in process.

    The top-1 accuracies are None unless all files have labels. A detector has no first class: for it `same_top1` counts
    the files whose likeliest object has the same label.
    """

    kind: ClassVar[str] = "photographs"

    images: int
    same_top1: int
    served_top1_pct: float | None
    in_process_top1_pct: float | None
    answers_sqnr_db: float
    images_per_second: float


class OtherClasses(AssertionError):
    """Some photographs get another first class through the server than in process."""


def fewer_than(count: int) -> WantsMore:
    """Return a condition that asks for `count` requests, however long they take."""
    return lambda sent, elapsed_s: sent < count


def logits_in_process(module: torch.nn.Module, images: torch.Tensor) -> Logits:
    """Return the logits [n, classes] of the module itself, in fp32 on the CPU, with all images in one batch.

    Of a module with several outputs it is the numbers of all of them, a row an image.
    """
    with Cpu().settings("fp32"), torch.inference_mode():
        found = module(images)
    return rows_of_outputs(one.float().numpy() for one in (found if isinstance(found, tuple) else (found,)))


def first_labels(served: ServedModel, rows: Logits) -> list[int | None]:
    """Return the first label of each answer: the likeliest class, or that of the likeliest object."""
    shapes = served.exported.artefact.outputs
    parts = np.split(rows, np.cumsum(served.exported.artefact.widths)[:-1], axis=1)
    arrays = [part.reshape(len(rows), *shape) for part, (_, shape) in zip(parts, shapes, strict=True)]
    answers = task_of(served.exported.spec).decode(Outputs((name for name, _ in shapes), arrays))
    return [_first(answer) for answer in answers]


def _first(answer: int | Detections) -> int | None:
    if isinstance(answer, Detections):
        return int(answer.labels[0]) if len(answer) else None
    return answer


def compare_photographs(
    served: ServedModel,
    files: Sequence[ImageFile],
    pool: ThreadPoolExecutor,
    timed: TimedRounds,
    report: Callable[[str], None],
) -> Photographs | None:
    """Send every photograph in a request of its own, and compare its logits and class with those in process.

    Eight requests are open at a time.

    Returns:
        The comparison, or None if timing is switched off.

    Raises:
        OtherClasses: if photographs get another class; the message names the first of them.
        WrongAnswers: if logits are not the model's own.
    """
    spec = served.exported.spec
    transform = case_pixels(served.case, spec)
    module = served.exported.module
    served_logits: list[Logits] = []
    own_logits: list[Logits] = []
    served_s = 0.0

    def every_one() -> None:
        nonlocal served_s
        with Clients(TRAFFIC, served.server, served.target, served.batches) as clients:
            for begin in range(0, len(files), CHUNK):
                report(f"photograph {begin} of {len(files)}")
                images = list(pool.map(lambda file: transform(decode(file)), files[begin : begin + CHUNK]))
                requests = [image[None].numpy() for image in images]
                began = perf_counter()
                answers = clients.run(fewer_than(len(requests)), requests).answers()
                served_s += perf_counter() - began
                served_logits.extend(answers)
                own_logits.append(logits_in_process(module, torch.stack(images)))

    rounds_s = timed("photographs", every_one, lambda elapsed_s: None if own_logits else ())
    own = np.concatenate(own_logits)
    found = np.concatenate(served_logits)
    pairs = zip(first_labels(served, found), first_labels(served, own), strict=True)
    same = np.array([one == other for one, other in pairs])
    if not same.all() and served.exported.artefact.labels:  # objects of equal scores have no first
        named = ", ".join(str(files[index]) for index in np.flatnonzero(~same)[:3])
        raise OtherClasses(
            f"{served.case}: {int((~same).sum())} of {len(files)} photographs get another first class through the "
            f"server than in process, such as {named}"
        )
    asked, widths = [[index] for index in range(len(files))], served.exported.artefact.widths
    answers_db = require_own_answers(own, asked, served_logits, served.floor_db, widths)
    if not rounds_s:
        return None
    labels = np.array([-1 if file.label is None else file.label for file in files])
    exported = served.exported
    is_labelled = (
        bool((labels >= 0).all())
        and exported.identity["weights"] != "random"
        and len(exported.artefact.labels) == IMAGENET_CLASSES
    )

    def right_pct(logits: Logits) -> float | None:
        return float(100 * np.mean(logits.argmax(axis=1) == labels)) if is_labelled else None

    return Photographs(
        images=len(files),
        same_top1=int(same.sum()),
        served_top1_pct=right_pct(found),
        in_process_top1_pct=right_pct(own),
        answers_sqnr_db=answers_db,
        images_per_second=len(files) / served_s,
    )
