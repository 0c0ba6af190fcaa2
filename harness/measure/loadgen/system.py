"""A runner as LoadGen's system under test, and the samples that it is asked about.

A batch holds the samples that are waiting, at most as many as the case's batch size. A shorter batch is padded with its
own first image, because runners are compiled for one shape.
"""

from __future__ import annotations

import queue
import statistics
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

import torch

from harness.engines import Runner
from harness.measure.loadgen.bridge import Library, Respond
from harness.proof import check_again
from models.tasks import Outputs, Task

Fetch = Callable[[Sequence[int]], Sequence[torch.Tensor]]
CALIBRATION_BATCHES = 5


class Samples:
    """The sample library: normalised images, fp32 [3, h, w], in host memory."""

    def __init__(self, fetch: Fetch, total: int, loaded: int) -> None:
        """Create the library without loading any image.

        Args:
            fetch: returns the images with these indices.
            total: the number of images.
            loaded: the number of images that are held in memory during a performance run.
        """
        self._fetch = fetch
        self._held: dict[int, torch.Tensor] = {}
        self.library = Library(total, loaded, self._load, self._unload)

    def _load(self, indices: Sequence[int]) -> None:
        wanted = sorted(set(indices) - self._held.keys())
        self._held.update(zip(wanted, self._fetch(wanted), strict=True))

    def _unload(self, indices: Sequence[int]) -> None:
        for index in set(indices):
            self._held.pop(index, None)

    def batch(self, indices: Sequence[int], size: int) -> torch.Tensor:
        """Return these images as one batch, padded to `size` with copies of the first one."""
        images = [self._held[index] for index in indices]
        return torch.stack(images + images[:1] * (size - len(images)))


class RunnerUnderTest:
    """A runner that answers LoadGen's samples with their classes, or their boxes."""

    def __init__(self, runner: Runner, task: Task, images: Samples, batch: int, *, is_queued: bool) -> None:
        """Use this runner and these samples.

        With `is_queued`, samples wait until `work` answers them on the thread that built the runner; otherwise `issue`
        answers them at once.
        """
        self._runner = runner
        self._task = task
        self._images = images
        self._batch = batch
        self._waiting: queue.SimpleQueue[tuple[int, int, Respond]] = queue.SimpleQueue()
        self._is_queued = is_queued
        self.batches = 0
        self._last: tuple[torch.Tensor, Outputs] | None = None

    def issue(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """See `SystemUnderTest.issue`."""
        if self._is_queued:
            for pair in zip(ids, indices, strict=True):
                self._waiting.put((*pair, respond))
            return
        for at in range(0, len(ids), self._batch):
            self._answer(ids[at : at + self._batch], indices[at : at + self._batch], respond)

    def work(self, is_over: threading.Event) -> None:
        """See `SystemUnderTest.work`."""
        while not is_over.is_set():
            try:
                taken = [self._waiting.get(timeout=0.05)]
            except queue.Empty:
                continue
            while len(taken) < self._batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            self._answer([one[0] for one in taken], [one[1] for one in taken], taken[0][2])

    def _answer(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        """Run one batch from host memory to answers on the host, and respond with the answers."""
        runner = self._runner
        images = self._images.batch(indices, self._batch)
        output = runner.submit(runner.put(images))
        runner.synchronize()
        outputs = runner.fetch(output)
        answers = self._task.packed(self._task.decode(outputs.first(len(ids))))
        self.batches += 1
        self._last = images, outputs
        respond(ids, answers)

    def check_last(self, precision: str, where: str) -> None:
        """Check that the last batch was answered as it is by itself. To be called when LoadGen's run is over.

        Args:
            precision: the precision of the case.
            where: what the batch is the last of, for the message.

        Raises:
            WrongAnswers: the answers differ.
        """
        __tracebackhide__ = True
        if self._last is not None:
            (images, outputs), self._last = self._last, None
            check_again(self._task, precision, self._runner, images, outputs, where)


def answer_time(runner: Runner, task: Task, images: Samples, batch: int) -> float:
    """Return the seconds from a batch in host memory to its answers on the host, as the median of a few batches."""
    indices = list(range(min(batch, images.library.total)))
    images.library.load(indices)
    times_s = []
    for _ in range(CALIBRATION_BATCHES):
        began = perf_counter()
        output = runner.submit(runner.put(images.batch(indices, batch)))
        runner.synchronize()
        task.decode(runner.fetch(output))
        times_s.append(perf_counter() - began)
    images.library.unload(indices)
    return statistics.median(times_s)
