"""From encoded images on disk to answers on the host: the stages, each alone and all as one pipeline.

Decoding and preprocessing run on worker threads (Pillow lets go of the interpreter lock), ahead of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any

import torch

from harness.data import ImageFile, UnreadableImage, decode
from harness.engines import Runner
from models.tasks import Outputs, Pixels, Task

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


def answers_of_files(
    runner: Runner,
    transform: Pixels,
    files: Sequence[ImageFile],
    batch: int,
    pool: ThreadPoolExecutor,
    is_time_up: Callable[[], bool] = lambda: False,
    on_unreadable: Callable[[int, UnreadableImage], None] | None = None,
) -> Iterator[tuple[list[int], Outputs]]:
    """The answers to the files through the whole pipeline, a batch at a time: the files' indices and their answers.

    Every file comes once, in order, but for those that cannot be decoded. The last batch is filled up with its own
    first image where it is short, and the surplus answers are dropped. Only the files of a few batches are in memory.

    Args:
        runner: warm, for batches of `batch`.
        transform: from a decoded image to fp32 [3, h, w].
        files: what to answer.
        batch: images a batch.
        pool: decodes and preprocesses.
        is_time_up: asked before each batch.
        on_unreadable: told of a file that is no whole image, which is then left out; None raises instead.

    Raises:
        UnreadableImage: of the first such file, unless `on_unreadable` takes it.
    """
    ahead: deque[tuple[int, Future[torch.Tensor]]] = deque()
    rest = enumerate(files)

    def refill() -> None:
        for index, file in islice(rest, BATCHES_AHEAD * batch - len(ahead)):
            ahead.append((index, pool.submit(lambda f: transform(decode(f)), file)))

    def next_batch() -> tuple[list[int], list[torch.Tensor]]:
        indices: list[int] = []
        images: list[torch.Tensor] = []
        while ahead and len(images) < batch:
            index, future = ahead.popleft()
            try:
                images.append(future.result())
                indices.append(index)
            except UnreadableImage as error:
                if on_unreadable is None:
                    raise
                on_unreadable(index, error)
            refill()
        return indices, images

    running: tuple[list[int], Any] | None = None  # an output that is not fetched yet
    try:
        refill()
        while ahead and not (running and is_time_up()):
            indices, images = next_batch()
            if not images:
                break
            placed = runner.put(torch.stack(images + images[:1] * (batch - len(images))))
            finished = None
            if running is not None:  # its output holds only until the next submit
                runner.synchronize()
                finished = running[0], runner.fetch(running[1]).first(len(running[0])).copy()
            running = indices, runner.submit(placed)
            if finished is not None:
                yield finished
        if running is not None:
            runner.synchronize()
            yield running[0], runner.fetch(running[1]).first(len(running[0]))
    finally:
        for _, future in ahead:
            future.cancel()


def stage_rates(
    runner: Runner, task: Task, transform: Pixels, files: Sequence[ImageFile], batch: int, pool: ThreadPoolExecutor
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
            task.decode(runner.fetch(output))

    passes = 0
    began = perf_counter()
    while perf_counter() - began < LEAST_STAGE_S:
        run()
        passes += 1
    rates["model"] = passes * len(full) / (perf_counter() - began)
    return rates
