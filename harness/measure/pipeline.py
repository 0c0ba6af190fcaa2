"""The pipeline from encoded images on disk to answers on the host, as a whole and each of its stages alone.

Decoding and preprocessing run ahead of the model on worker threads, because Pillow releases the interpreter lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import torch

from harness.data import ImageFile, UnreadableImage, decode, split_readable
from harness.engines import Runner
from harness.proof import Prepared, case_pixels, check_again
from models.build import one_thread
from models.tasks import Outputs, Pixels, Task, task_of

BATCHES_AHEAD = 2
STAGE_IMAGES = 64
LEAST_STAGE_S = 0.3


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads for decoding. Torch uses one thread in each, because the pool occupies the cores."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=lambda: torch.set_num_threads(1))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def torch_beside(runner: Runner) -> AbstractContextManager[None]:
    """Let torch use one thread here where the runner's library has threads of its own.

    Those of torch spin for some milliseconds after each operator, such as the copy of images into a batch, and the
    library's threads wait for the cores meanwhile: fbnetc_100 took twice its time on onnxruntime.
    """
    return one_thread() if getattr(runner, "has_own_threads", False) else nullcontext()


@dataclass(frozen=True)
class AnsweredBatch:
    """A batch of files that was answered among others.

    Attributes:
        files: its images.
        outputs: the answers that it got.
    """

    files: tuple[ImageFile, ...]
    outputs: Outputs


def answer_again(prepared: Prepared, batches: Sequence[AnsweredBatch], where: str) -> None:
    """Answer batches by themselves and compare with what each got among all others.

    Args:
        prepared: the case.
        batches: the batches; of several, each shows how much the answers to other images differ.
        where: what the answers are the last of, for the message.

    Raises:
        WrongAnswers: the answers of a batch differ.
    """
    transform, task = case_pixels(prepared.case, prepared.spec), task_of(prepared.spec)
    pixels = [torch.stack([transform(decode(file)) for file in batch.files]) for batch in batches]
    for batch, images in zip(batches, pixels, strict=True):
        others = (one for other, one in zip(batches, pixels, strict=True) if other.files != batch.files)
        runner, precision = prepared.runner, prepared.case.precision
        check_again(task, precision, runner, images, batch.outputs, where, next(others, None))


def answers_of_files(
    runner: Runner,
    transform: Pixels,
    files: Sequence[ImageFile],
    batch: int,
    pool: Executor,
    is_time_up: Callable[[], bool] = lambda: False,
    on_unreadable: Callable[[int, UnreadableImage], None] | None = None,
    note_size: Callable[[int, tuple[int, int]], None] = lambda index, size: None,
) -> Iterator[tuple[list[int], Outputs]]:
    """Run the whole pipeline, and yield for each batch the indices of the files and the answers to them.

    Every file that can be decoded comes once, in order. If the last batch is short, it is padded with its own first
    image, and the surplus answers are dropped. Only the files of a few batches are in memory at a time.

    Args:
        runner: the warm model, compiled for batches of `batch` images.
        transform: converts a decoded image to fp32 [3, h, w].
        files: the files to answer.
        batch: the number of images in a batch.
        pool: the threads that decode and preprocess.
        is_time_up: called before each batch; the pipeline ends early if it returns True.
        on_unreadable: called with the index of a file that cannot be decoded, which is then left out, and with the
            error; None to raise the error instead.
        note_size: called with the index of each file, and the height and width of its image, before its batch runs.

    Raises:
        UnreadableImage: a file cannot be decoded, and `on_unreadable` is None.
    """
    ahead: deque[tuple[int, Future[tuple[torch.Tensor, tuple[int, int]]]]] = deque()
    rest = enumerate(files)

    def ready(file: ImageFile) -> tuple[torch.Tensor, tuple[int, int]]:
        image = decode(file)
        return transform(image), (image.height, image.width)

    def refill() -> None:
        for index, file in islice(rest, BATCHES_AHEAD * batch - len(ahead)):
            ahead.append((index, pool.submit(ready, file)))

    def next_batch() -> tuple[list[int], list[torch.Tensor]]:
        indices: list[int] = []
        images: list[torch.Tensor] = []
        while ahead and len(images) < batch:
            index, future = ahead.popleft()
            try:
                image, size = future.result()
                images.append(image)
                indices.append(index)
                note_size(index, size)
            except UnreadableImage as error:
                if on_unreadable is None:
                    raise
                on_unreadable(index, error)
            refill()
        return indices, images

    running: tuple[list[int], Any] | None = None  # the indices and the output that is not fetched yet
    held = ExitStack()
    try:
        held.enter_context(torch_beside(runner))
        refill()
        while ahead and not (running and is_time_up()):
            indices, images = next_batch()
            if not images:
                break
            placed = runner.put(torch.stack(images + images[:1] * (batch - len(images))))
            finished = None
            if running is not None:  # its output is valid only until the next submit
                runner.synchronize()
                finished = running[0], runner.fetch(running[1]).first(len(running[0])).copy()
            running = indices, runner.submit(placed)
            if finished is not None:
                yield finished
        if running is not None:
            runner.synchronize()
            yield running[0], runner.fetch(running[1]).first(len(running[0]))
    finally:
        held.close()
        for _, future in ahead:
            future.cancel()


def first_readable(files: Sequence[ImageFile], count: int, pool: ThreadPoolExecutor) -> list[ImageFile]:
    """Return the first `count` files that can be decoded, or all where there are fewer.

    Raises:
        UnreadableImage: none of the files can be decoded.
    """
    found: list[ImageFile] = []
    rest = iter(files)
    while len(found) < count and (some := list(islice(rest, count - len(found)))):
        found += split_readable(some, pool)[0]
    if not found:
        raise UnreadableImage(f"none of the {len(files)} files can be decoded, such as {files[0]}")
    return found


def stage_rates(
    runner: Runner,
    task: Task,
    transform: Pixels,
    files: Sequence[ImageFile],
    batch: int,
    pool: ThreadPoolExecutor,
    *,
    skips_unreadable: bool = False,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, float]:
    """Measure the images per second of each stage alone, on the first files.

    The stages are `decode`, `preprocess`, `copy` and `model`. Each is run once untimed, which starts the threads and
    leaves the files in the page cache, and then again and again for at least `LEAST_STAGE_S` by the clock in seconds.
    So `decode` is decoding, and not reading from a disk. Files that cannot be decoded are left out with
    `skips_unreadable`.

    Raises:
        UnreadableImage: a file cannot be decoded, and `skips_unreadable` is False; or none can.
    """
    count = max(STAGE_IMAGES, batch)
    sample = first_readable(files, count, pool) if skips_unreadable else list(islice(files, count))
    rates: dict[str, float] = {}

    def timed(stage: str, count: int, work: Callable[[], Any]) -> Any:
        result = work()
        began_s, passes = clock(), 0
        while (elapsed_s := clock() - began_s) < LEAST_STAGE_S:
            work()
            passes += 1
        rates[stage] = passes * count / elapsed_s
        return result

    decoded = timed("decode", len(sample), lambda: list(pool.map(decode, sample)))
    ready = timed("preprocess", len(sample), lambda: list(pool.map(transform, decoded)))
    full = [ready[index % len(ready)] for index in range(-(-len(ready) // batch) * batch)]
    chunks = [full[index : index + batch] for index in range(0, len(full), batch)]

    def copy() -> list[Any]:
        placed = [runner.put(torch.stack(chunk)) for chunk in chunks]
        runner.synchronize()
        return placed

    def run() -> None:
        for one in placed:
            output = runner.submit(one)
            runner.synchronize()
            task.decode(runner.fetch(output))

    with torch_beside(runner):
        placed = timed("copy", len(full), copy)
        timed("model", len(full), run)
    return rates
