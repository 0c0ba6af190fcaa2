"""What a worker does with a block: its images are decoded and answered, and the time of each part is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from harness.data import UnreadableImage
from harness.engines import Runner
from harness.measure.bulk.ahead import DecodingAhead
from harness.measure.bulk.blocks import Block
from harness.measure.pipeline import AnsweredBatch, answers_of_files
from harness.proof import Prepared, case_pixels
from models.tasks import Outputs, WrongAnswers, task_of


@dataclass(frozen=True)
class BlockRun:
    """What a worker did with a block.

    Attributes:
        predictions: the answer to each image, in the order of the block; empty text for an unreadable image.
        unreadable: the error of each file that could not be read.
        busy_s: the time of the whole block in seconds, on the clock of the worker.
        copy_s: the part of it in which batches were put onto the device.
        model_s: the part of it in which the model was submitted to, waited for and its answers fetched.
    """

    predictions: tuple[str, ...]
    unreadable: tuple[str, ...]
    busy_s: float
    copy_s: float
    model_s: float

    @property
    def answered(self) -> int:
        """How many of the images were read and answered."""
        return sum(map(bool, self.predictions))


class _Stopwatch:
    """A runner whose calls are timed: `put` as copying, all others as the model."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.has_own_threads: bool = getattr(runner, "has_own_threads", False)  # for `torch_beside`
        self.copy_s = self.model_s = 0.0

    def put(self, images: Any) -> Any:
        began_s = perf_counter()
        placed = self._runner.put(images)
        self.copy_s += perf_counter() - began_s
        return placed

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        began_s = perf_counter()
        found = call(*arguments)
        self.model_s += perf_counter() - began_s
        return found

    def submit(self, batch: Any) -> Any:
        return self._timed(self._runner.submit, batch)

    def synchronize(self) -> None:
        self._timed(self._runner.synchronize)

    def fetch(self, output: Any) -> Outputs:
        found: Outputs = self._timed(self._runner.fetch, output)
        return found

    def close(self) -> None:
        raise AssertionError("the runner is closed by who prepared it")


def classify_block(
    prepared: Prepared,
    block: Block,
    pool: DecodingAhead,
    note: Callable[[AnsweredBatch], None] = lambda last: None,
    *,
    skips_unreadable: bool = False,
) -> BlockRun:
    """Answer all images of a block. What is neither copying nor the model is waiting for images to be decoded.

    Args:
        prepared: the case.
        block: the images.
        pool: the threads that decode and preprocess.
        note: called with the last whole batch, if there is one.
        skips_unreadable: whether files that cannot be decoded are left out and counted.

    Raises:
        UnreadableImage: a file cannot be decoded, and `skips_unreadable` is False.
        WrongAnswers: the answers are not finite.
    """
    task = task_of(prepared.spec)
    watch = _Stopwatch(prepared.runner)
    found: dict[int, str] = {}
    unreadable: list[str] = []

    def leave_out(index: int, error: UnreadableImage) -> None:
        found[index] = ""
        unreadable.append(str(error))

    whole: AnsweredBatch | None = None
    pool.begin(block.files)
    began_s = perf_counter()
    for indices, outputs in answers_of_files(
        watch,
        case_pixels(prepared.case, prepared.spec),
        block.files,
        prepared.case.images,
        pool,
        on_unreadable=leave_out if skips_unreadable else None,
    ):
        if not all(np.isfinite(array).all() for array in outputs):
            raise WrongAnswers(f"answers to images of {block}, such as {block.files[indices[0]]}, are NaN or infinite")
        found.update(zip(indices, map(_text_of, task.decode(outputs)), strict=True))
        if len(indices) == prepared.case.images:
            whole = AnsweredBatch(tuple(block.files[index] for index in indices), outputs.copy())
    busy_s = perf_counter() - began_s
    if whole is not None:
        note(whole)
    return BlockRun(
        predictions=tuple(found[index] for index in range(len(block.files))),
        unreadable=tuple(unreadable),
        busy_s=busy_s,
        copy_s=watch.copy_s,
        model_s=watch.model_s,
    )


def _text_of(answer: Any) -> str:
    """Return an answer as it stands in a file: the index of a class, or whatever else a task gives, as JSON."""
    return str(answer) if isinstance(answer, (int, str)) else json.dumps(answer)
