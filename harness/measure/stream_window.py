"""What one stream does: untimed requests until the common start, then timed ones until every stream has enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any, Protocol

from harness.cases import Duration, wants_more
from harness.engines import Runner
from harness.host.pressure import read_waiting, shares_of


@dataclass(frozen=True)
class StreamRun:
    """What one stream did in the window. All times are in seconds on the clock that the processes share.

    Attributes:
        name: the name of the stream.
        rounds_s: the time of each request, from before `submit` until after `synchronize`.
        began_s: the time at which the first request began.
        ended_s: the time at which the last request ended.
        untimed_rounds: how many requests it ran before the window, so that it began warm.
        runqueue_wait_pct: the percentage of its window that a thread of it waited for a core, None where unknown.
    """

    name: str
    rounds_s: Sequence[float]
    began_s: float
    ended_s: float
    untimed_rounds: int = 0
    runqueue_wait_pct: float | None = None


class Window(Protocol):
    """The common time window of several processes, as one of them sees it."""

    @property
    def go_at_s(self) -> float:
        """The time in seconds at which the window begins, on the clock that all processes share."""

    def is_stopped(self) -> bool:
        """Return whether all processes are told to end now."""

    def report(self, rounds: int) -> None:
        """Report how many rounds this process has done, so that a hanging process is noticed."""

    def is_everyone_done(self) -> bool:
        """Report that this process has enough rounds, and return whether all the others have too."""


def run_window(
    runner: Runner,
    batches: Sequence[Any],
    duration: Duration,
    window: Window,
    name: str,
    note: Callable[[Any, Any], None] = lambda output, batch: None,
) -> StreamRun:
    """Run requests one after the other, from the common start until every stream has enough of them.

    Until the start, requests run untimed, because a stream that was ready early has stood still while others were
    compiled. A stream that has enough requests continues until the others do too, so that no stream has the machine to
    itself.

    Args:
        runner: the warm model.
        batches: the batches to cycle through.
        duration: how long to run.
        window: the common window of all streams.
        name: the name of the stream.
        note: called with the last output and its batch when the last request has ended.
    """
    rounds_s: list[float] = []
    untimed = _run_until(window.go_at_s, runner, batches)
    before = read_waiting()
    began_s = now_s = perf_counter()
    while not window.is_stopped():
        elapsed_s = now_s - window.go_at_s
        if rounds_s and duration.max_s is not None and elapsed_s >= duration.max_s:
            break
        if not wants_more(duration, len(rounds_s), elapsed_s) and window.is_everyone_done():
            break
        began_round_s = perf_counter()
        batch = batches[len(rounds_s) % len(batches)]
        output = runner.submit(batch)
        runner.synchronize()
        now_s = perf_counter()
        rounds_s.append(now_s - began_round_s)
        window.report(len(rounds_s))
    waited = shares_of(before, read_waiting())["runqueue_wait_pct"]
    if rounds_s:
        note(output, batch)
    return StreamRun(name, rounds_s, began_s, now_s, untimed, waited)


def _run_until(go_at_s: float, runner: Runner, batches: Sequence[Any]) -> int:
    """Run untimed requests until the start, wait for what is left of the time, and return how many there were.

    A request that would last beyond the start, as long as the longest so far, is not begun.
    """
    rounds, longest_s = 0, 0.0
    while (began_s := perf_counter()) + longest_s < go_at_s:
        runner.submit(batches[rounds % len(batches)])
        runner.synchronize()
        longest_s = max(longest_s, perf_counter() - began_s)
        rounds += 1
    while (ahead_s := go_at_s - perf_counter()) > 0:
        sleep(ahead_s)
    return rounds
