"""From encoded images on disk to classes on the host: the stages, each alone and all as one pipeline.

Decoding and preprocessing run on worker threads (Pillow lets go of the interpreter lock), ahead of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from harness.engines import Runner
from harness.imagenet import ImageFile, decode

Transform = Callable[[Image.Image], torch.Tensor]

BATCHES_AHEAD = 2
STAGE_IMAGES = 64
LEAST_STAGE_S = 0.3


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool for decoding. Its threads compute alone: the cores are shared out among them already."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=lambda: torch.set_num_threads(1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def classify(
    runner: Runner,
    transform: Transform,
    files: Sequence[ImageFile],
    batch: int,
    pool: ThreadPoolExecutor,
    is_time_up: Callable[[], bool] = lambda: False,
) -> list[int]:
    """The class of each file, in their order, through the whole pipeline; of fewer where the time was up.

    The last batch is filled up with its own first image where it is short, and the surplus answers are dropped.

    Args:
        runner: warm, for batches of `batch`.
        transform: from a decoded image to fp32 [3, h, w].
        files: what to classify.
        batch: images a batch.
        pool: decodes and preprocesses.
        is_time_up: asked before each batch.
    """
    ahead: deque[Future[torch.Tensor]] = deque()
    rest = iter(files)

    def refill() -> None:
        for file in islice(rest, BATCHES_AHEAD * batch - len(ahead)):
            ahead.append(pool.submit(lambda f: transform(decode(f)), file))

    classes: list[int] = []
    running: tuple[Any, int] | None = None  # an output not fetched yet and how many of its rows count

    def collect() -> None:
        if running is not None:
            output, count = running
            runner.synchronize()
            classes.extend(int(index) for index in runner.fetch(output).argmax(axis=1)[:count])

    refill()
    while ahead and not (running and is_time_up()):
        images = [ahead.popleft().result() for _ in range(min(batch, len(ahead)))]
        refill()
        count = len(images)
        placed = runner.put(torch.stack(images + images[:1] * (batch - count)))
        collect()  # the output holds only until the next submit
        running = (runner.submit(placed), count)
    collect()
    for future in ahead:
        future.cancel()
    return classes


def stage_rates(
    runner: Runner, transform: Transform, files: Sequence[ImageFile], batch: int, pool: ThreadPoolExecutor
) -> dict[str, float]:
    """Images per second of each stage alone, on a sample of the files."""
    sample = list(islice(files, max(STAGE_IMAGES, batch)))
    rates: dict[str, float] = {}

    def timed(stage: str, count: int, work: Callable[[], Any]) -> Any:
        began = perf_counter()
        result = work()
        rates[stage] = count / (perf_counter() - began)
        return result

    decoded = timed("decode", len(sample), lambda: list(pool.map(decode, sample)))
    ready = timed("preprocess", len(sample), lambda: list(pool.map(transform, decoded)))
    full = [ready[index % len(ready)] for index in range(-(-len(ready) // batch) * batch)]
    chunks = [full[index : index + batch] for index in range(0, len(full), batch)]

    def copy() -> list[Any]:
        placed = [runner.put(torch.stack(chunk)) for chunk in chunks]
        runner.synchronize()
        return placed

    placed = timed("copy", len(full), copy)

    def run() -> None:
        for one in placed:
            output = runner.submit(one)
            runner.synchronize()
            runner.fetch(output).argmax(axis=1)

    passes = 0
    began = perf_counter()
    while perf_counter() - began < LEAST_STAGE_S:
        run()
        passes += 1
    rates["model"] = passes * len(full) / (perf_counter() - began)
    return rates


def bound_of(rates: Mapping[str, float]) -> str:
    """The stage that bounds the pipeline.

    Decoding and preprocessing share the workers, copy and model the thread that feeds the device; of the pair that is
    slower together, the slower stage.

    Args:
        rates: images per second of each stage alone.
    """
    pairs = (("decode", "preprocess"), ("copy", "model"))
    slower = max(pairs, key=lambda pair: sum(1 / rates[stage] for stage in pair))
    return min(slower, key=lambda stage: rates[stage])


def top1(files: Sequence[ImageFile], classes: Sequence[int]) -> tuple[int, int]:
    """How many of the classified files have a label, and how many of those are right."""
    labelled = [(file.label, found) for file, found in zip(files, classes, strict=False) if file.label is not None]
    return len(labelled), sum(label == found for label, found in labelled)
