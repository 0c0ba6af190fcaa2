"""Several streams at once: one process each, started by spawn, one common window, a deadline on everything.

Owns the starting, the watching and the ending. What a stream does inside is `stream_process`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import torch

from harness.case import Case
from harness.environment import usable_cores
from harness.rounds import Duration
from harness.stream_process import STACK_SIGNAL, Assignment, Shared, Source, StreamRun, main
from models.catalog import ModelSpec

Report = Callable[[str], None]

# A stream has so long to load, compile and warm up.
READY_WITHIN_S = 900.0
# In the window a stream that completes nothing for so long hangs; or for so many times what its batch took before.
HANGS_AFTER_S = 20.0
HANGS_AFTER_BATCHES = 50
# The common start lies so far ahead that every stream has read it.
AHEAD_S = 0.05
WATCH_S = 0.5
# A stream that was told to end has so long before it is killed.
END_WITHIN_S = 3.0


class StreamFailed(RuntimeError):
    """A stream died, hung or failed; the message names it and gives its traceback."""


@dataclass
class _Stream:
    assignment: Assignment
    process: SpawnProcess
    pipe: Connection
    facts: dict[str, Any] | None = None
    batch_s: float = 0.0


def placements(case: Case) -> list[Case]:
    """The case of each stream: its own device where there are replicas, and no number of streams.

    `--replicas 2 --streams 2` on `cuda` is two streams on each of `cuda:0` and `cuda:1`.
    """
    alone = case.alone()
    if case.replicas == 1:
        return [alone] * case.streams
    return [
        replace(alone, device=f"{case.device}:{replica}")
        for replica in range(case.replicas)
        for _ in range(case.streams)
    ]


def split_cores(cores: Sequence[int], streams: int) -> list[tuple[int, ...]]:
    """The cores of each stream: equal shares without overlap; one shared core each where there are too few."""
    if streams > len(cores):
        return [(cores[index % len(cores)],) for index in range(streams)]
    share, rest = divmod(len(cores), streams)
    ends = [share * (index + 1) + min(index + 1, rest) for index in range(streams)]
    return [tuple(cores[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def assign(case: Case, spec: ModelSpec, source: Source, folder: Path) -> list[Assignment]:
    """What each stream is to do. On the CPU threads and cores are split between them."""
    places = placements(case)
    cores: list[tuple[int, ...]] | list[None] = [None] * len(places)
    if case.device == "cpu" and hasattr(os, "sched_getaffinity"):
        cores = split_cores(sorted(os.sched_getaffinity(0)), len(places))
    threads = max(1, min(torch.get_num_threads(), usable_cores()) // len(places))
    return [
        Assignment(
            name=f"stream {index + 1}",
            index=index,
            case=place,
            spec=spec,
            source=source,
            cores=cores[index],
            threads=threads,
            stacks=folder / f"stream-{index + 1}.txt",
            starter=os.getpid(),
        )
        for index, place in enumerate(places)
    ]


class Streams:
    """Streams that are ready, until they are closed."""

    def __init__(self, case: Case, streams: list[_Stream], shared: Shared, ready_s: float) -> None:
        """Take over the processes; `ready_s` is what it took until all were ready, their start included."""
        self.case = case
        self.ready_s = ready_s
        self._streams = streams
        self._shared = shared

    @property
    def facts(self) -> list[dict[str, Any]]:
        """The circumstances of each stream."""
        return [stream.facts for stream in self._streams if stream.facts is not None]

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [stream.process.pid for stream in self._streams if stream.process.pid is not None]

    def run(
        self, duration: Duration, begin: Callable[[], None] = lambda: None, end: Callable[[], None] = lambda: None
    ) -> list[StreamRun]:
        """One common window.

        Args:
            duration: how long.
            begin: called when it begins.
            end: called when every stream has ended it.

        Raises:
            StreamFailed: a stream died, hung or failed in it.
            Contradiction: one compiled in it.
        """
        go_at_s = perf_counter() + AHEAD_S
        for stream in self._streams:
            stream.pipe.send((go_at_s, duration))
        sleep(max(0.0, go_at_s - perf_counter()))
        begin()
        try:
            found = _gather(self._streams, "ran", self._hangs, lambda stream, text: None)
        finally:
            end()
        return [found[stream.assignment.index] for stream in self._streams]

    def _hangs(self) -> Callable[[_Stream], str | None]:
        """Tells, asked again and again, whether a stream has not moved for too long."""
        seen: dict[int, tuple[int, float]] = {}

        def hangs(stream: _Stream) -> str | None:
            index = stream.assignment.index
            rounds, now = self._shared.rounds[index], monotonic()
            if seen.get(index, (-1, now))[0] != rounds:
                seen[index] = (rounds, now)
            allowed_s = max(HANGS_AFTER_S, HANGS_AFTER_BATCHES * stream.batch_s)
            stood_s = now - seen[index][1]
            return f"completed nothing for {stood_s:.0f} s, after {rounds} batches" if stood_s > allowed_s else None

        return hangs


@contextmanager
def open_streams(case: Case, spec: ModelSpec, source: Source, report: Report) -> Iterator[Streams]:
    """The streams of a case, loaded, proven and warm; none is left when this is left.

    Raises:
        StreamFailed: one died, hung or failed on the way.
        Contradiction, WrongAnswers: one is not what the label says.
    """
    context = multiprocessing.get_context("spawn")
    began_s = perf_counter()
    with tempfile.TemporaryDirectory(prefix="visionmark-streams-") as folder:
        assignments = assign(case, spec, source, Path(folder))
        count = len(assignments)
        shared = Shared(context.RawValue("b", 0), context.RawArray("b", count), context.RawArray("Q", count))
        streams: list[_Stream] = []
        try:
            for assignment in assignments:
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=main, args=(assignment, shared, theirs), name=assignment.name, daemon=True
                )
                process.start()
                theirs.close()
                streams.append(_Stream(assignment, process, ours))
            late = monotonic() + READY_WITHIN_S

            def too_late() -> Callable[[_Stream], str | None]:
                return lambda stream: f"not ready within {READY_WITHIN_S:g} s" if monotonic() > late else None

            ready = _gather(streams, "ready", too_late, lambda stream, text: report(f"{stream.assignment.name} {text}"))
            for stream in streams:
                stream.facts, stream.batch_s = ready[stream.assignment.index]
            yield Streams(case, streams, shared, perf_counter() - began_s)
        finally:
            shared.stop.value = 1
            _end(streams)


def _gather(
    streams: list[_Stream],
    word: str,
    watch: Callable[[], Callable[[_Stream], str | None]],
    report: Callable[[_Stream, str], None],
) -> dict[int, Any]:
    """What every stream says with that word, by its index.

    Raises:
        StreamFailed: one says something else, nothing more, or nothing for too long.
    """
    found: dict[int, Any] = {}
    hangs = watch()
    while len(found) < len(streams):
        missing = [stream for stream in streams if stream.assignment.index not in found]
        heard = wait([stream.pipe for stream in missing], timeout=WATCH_S)
        for stream in missing:
            if stream.pipe in heard:
                said, value = _receive(stream)
                if said == "phase":
                    report(stream, value)
                elif said == word:
                    found[stream.assignment.index] = value
                elif said == "denied":
                    raise type(value)(f"{stream.assignment.name}: {value}")
                else:
                    raise StreamFailed(f"{stream.assignment.name} failed:\n{value}")
            elif why := hangs(stream):
                raise StreamFailed(f"{stream.assignment.name} hangs: it has {why}; it is here:\n{_stack_of(stream)}")
    return found


def _receive(stream: _Stream) -> Any:
    """The next message of a stream.

    Raises:
        StreamFailed: it died.
    """
    try:
        return stream.pipe.recv()
    except (EOFError, ConnectionResetError):
        stream.process.join(END_WITHIN_S)
        code = stream.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        stacks = stream.assignment.stacks.read_text().strip()
        raise StreamFailed(f"{stream.assignment.name} {how} (pid {stream.process.pid})\n{stacks}".rstrip()) from None


def _stack_of(stream: _Stream) -> str:
    """Where a stream is, by asking it to write its stack."""
    if stream.process.pid is None or not stream.process.is_alive():
        return "(it has ended)"
    os.kill(stream.process.pid, STACK_SIGNAL)
    end = monotonic() + 1.0
    while monotonic() < end and not stream.assignment.stacks.read_text():
        sleep(0.05)
    return stream.assignment.stacks.read_text().strip() or "(it does not answer; it may be stopped)"


def _end(streams: list[_Stream]) -> None:
    """Let every stream close its model, and kill what has not ended in time."""
    for stream in streams:
        stream.pipe.close()  # one that waits for the start hears that none will come
    late = monotonic() + END_WITHIN_S
    for stream in streams:
        stream.process.join(max(0.0, late - monotonic()))
        if stream.process.is_alive():
            stream.process.kill()
        stream.process.join()
        stream.process.close()
