"""A closed loop of N clients: each sends its next request when its previous one has been answered.

A request is due when its client is free, and done when its answer is decoded. Answers are kept in the order in which
the requests were issued, whatever order they arrived in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from types import TracebackType

from harness.triton.clients import (
    ASYNC,
    SHARED_MEMORY,
    SYNC,
    AsyncClient,
    ImageBatch,
    RequestFailed,
    SyncClient,
    Target,
    Traffic,
)
from harness.triton.server import Server
from harness.triton.shared_memory import SharedMemoryClient
from models.tasks.classify import Logits

# Whether one more request is due, given how many were issued and the seconds since the first.
WantsMore = Callable[[int, float], bool]
REASONS_SHOWN = 3
# Requests fail a moment before the process that should have answered them is seen to have ended.
TROUBLE_S = 0.5


class RequestsFailed(AssertionError):
    """Requests failed under load, so that nothing of the load counts as a measurement."""


@dataclass(frozen=True)
class Request:
    """One request and its answer. Both times are in seconds of the same clock."""

    index: int
    due_s: float
    done_s: float
    answer: Logits


@dataclass(frozen=True)
class ClosedLoop:
    """The result of a closed loop.

    Attributes:
        requests: all requests with their answers, in the order in which they were issued.
        wall_s: seconds from the first request's due time until the last answer was decoded.
    """

    requests: tuple[Request, ...]
    wall_s: float

    def latencies_s(self) -> list[float]:
        """Return the latency of each request in seconds, in the order in which they were issued."""
        return [request.done_s - request.due_s for request in self.requests]

    def answers(self) -> list[Logits]:
        """Return the answer to each request, in the order in which they were issued."""
        return [request.answer for request in self.requests]


class Feed:
    """Hands out request numbers to all clients of one loop, until enough are issued or a request has failed."""

    def __init__(self, wants_more: WantsMore, batches: Sequence[ImageBatch]) -> None:
        """Prepare to send `batches` in rotation. The clock starts when the first number is handed out."""
        self.batches = batches
        self._wants_more = wants_more
        self._lock = threading.Lock()
        self._dealt = 0
        self._began: float | None = None
        self._is_over = False
        self.done: list[Request] = []
        self.failures: list[str] = []

    def next(self) -> int | None:
        """Return the number of the next request, or None if no more is due."""
        with self._lock:
            now = perf_counter()
            self._began = now if self._began is None else self._began
            if self._is_over or not self._wants_more(self._dealt, now - self._began):
                self._is_over = True
                return None
            self._dealt += 1
            return self._dealt - 1

    def stop(self) -> None:
        """Hand out no more numbers."""
        self._is_over = True

    def fail(self, reason: str) -> None:
        """Record the reason of a failed request, and hand out no more numbers."""
        self.failures.append(reason)
        self.stop()

    def load(self, server: Server) -> ClosedLoop:
        """Return the result of the loop.

        Raises:
            RequestsFailed: if requests failed or the server can no longer be used; the message counts the reasons.
        """
        trouble = server.trouble(patience_s=TROUBLE_S if self.failures else 0.0)
        if self.failures or trouble:
            reasons = Counter(self.failures).most_common(REASONS_SHOWN)
            listed = "; ".join(f"{count} times: {reason}" for reason, count in reasons)
            raise RequestsFailed(
                f"{len(self.failures)} of {self._dealt} requests failed{': ' if listed else ''}{listed}"
                + (f"\n{trouble}" if trouble else "")
            )
        ordered = tuple(sorted(self.done, key=lambda request: request.index))
        return ClosedLoop(ordered, max(r.done_s for r in ordered) - min(r.due_s for r in ordered))


class Clients:
    """The clients of one traffic, as a context manager. `run` may be called again and again."""

    def __init__(self, traffic: Traffic, server: Server, target: Target, batches: Sequence[ImageBatch]) -> None:
        """Prepare clients of `server` that ask for `target` and send `batches` in rotation."""
        self._server = server
        self._batches = batches
        self._crew: _Threads | _Loop
        if traffic.protocol == SHARED_MEMORY:
            self._crew = _Threads(traffic.clients, lambda: SharedMemoryClient(server, target, batches[0]))
        elif traffic.mode == "sync":
            opener = SYNC[traffic.protocol]
            self._crew = _Threads(traffic.clients, lambda: opener(server.endpoint, target))
        else:
            aio = ASYNC[traffic.protocol]
            self._crew = _Loop(traffic.clients, lambda: aio(server.endpoint, target))

    def run(self, wants_more: WantsMore, batches: Sequence[ImageBatch] | None = None) -> ClosedLoop:
        """Run one closed loop and return its result.

        Args:
            wants_more: tells whether one more request is due.
            batches: the requests to send in rotation, in place of those given to the constructor.

        Raises:
            RequestsFailed: if a request failed or the server is gone.
        """
        feed = Feed(wants_more, batches or self._batches)
        self._crew.run(feed)
        return feed.load(self._server)

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crew.close()


class _Threads:
    """Runs each client in a thread of its own, because a client belongs to the thread that opened it."""

    def __init__(self, count: int, opener: Callable[[], SyncClient]) -> None:
        self._jobs: list[SimpleQueue[Feed | None]] = [SimpleQueue() for _ in range(count)]
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(opener, job), name=f"client-{index}", daemon=True)
            for index, job in enumerate(self._jobs)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, opener: Callable[[], SyncClient], jobs: SimpleQueue[Feed | None]) -> None:
        client: SyncClient | None = None
        while (feed := jobs.get()) is not None:
            failure = None
            try:
                client = client or opener()
                while (index := feed.next()) is not None:
                    due_s = perf_counter()
                    answer = client.infer(feed.batches[index % len(feed.batches)])
                    feed.done.append(Request(index, due_s, perf_counter(), answer))
            except RequestFailed as error:
                feed.fail(str(error))
            except BaseException as error:  # noqa: B036 - handed to the waiting thread, which raises it
                feed.stop()
                failure = error
            self._ended.put(failure)
        if client is not None:
            client.close()

    def run(self, feed: Feed) -> None:
        for job in self._jobs:
            job.put(feed)
        try:
            ended = [self._ended.get() for _ in self._jobs]
        except BaseException:
            feed.stop()
            raise
        for failure in ended:
            if failure is not None:
                raise failure

    def close(self) -> None:
        for job in self._jobs:
            job.put(None)
        for thread in self._threads:
            thread.join()


class _Loop:
    """Runs all clients on one event loop, which runs only while a load does."""

    def __init__(self, count: int, opener: Callable[[], AsyncClient]) -> None:
        self._loop = asyncio.new_event_loop()

        async def open_all() -> list[AsyncClient]:
            return [opener() for _ in range(count)]

        self._clients = self._loop.run_until_complete(open_all())

    async def _work(self, client: AsyncClient, feed: Feed) -> None:
        try:
            while (index := feed.next()) is not None:
                due_s = perf_counter()
                answer = await client.infer(feed.batches[index % len(feed.batches)])
                feed.done.append(Request(index, due_s, perf_counter(), answer))
        except RequestFailed as error:
            feed.fail(str(error))

    def run(self, feed: Feed) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._work(client, feed) for client in self._clients))

        self._loop.run_until_complete(all_of_them())

    def close(self) -> None:
        async def close_all() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            for client in self._clients:
                await client.close()

        self._loop.run_until_complete(close_all())
        self._loop.close()
