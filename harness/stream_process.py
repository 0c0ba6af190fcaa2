"""One stream: a process of its own with its own copy of the model. Started by `streams`, which it tells how it goes.

Owns what happens inside the process. It imports neither the other streams nor the one who started it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import torch

from harness.artefacts import ArtefactCache
from harness.case import Case
from harness.circumstances import circumstances
from harness.engines import Runner
from harness.evidence import Contradiction
from harness.imagenet import ImageFile
from harness.lifeline import die_with_starter
from harness.parity import WrongAnswers
from harness.prepare import References, prepare
from harness.rounds import Duration, wants_more
from harness.saved import SavedModel
from harness.supplies import Supplies, data_calibration, generated_calibration
from models.catalog import ModelSpec

# Written to the stack file on this signal: where a stream hangs.
STACK_SIGNAL = signal.SIGUSR1


@dataclass(frozen=True)
class Source:
    """Where a stream gets what its model is made of; `Supplies`, but fit to be sent to another process.

    Attributes:
        weights: `random`, `pretrained` or a file.
        cache_dir: where artefacts are kept.
        data: name of the data set.
        calibration: its images to calibrate on; none for generated ones.
        saved: the prepared model to load in place of building it.
    """

    weights: str | Path
    cache_dir: Path
    data: str = ""
    calibration: tuple[ImageFile, ...] = ()
    saved: SavedModel | None = None

    def supplies(self, spec: ModelSpec) -> Supplies:
        """What engines are supplied with."""
        if self.calibration:
            return Supplies(ArtefactCache(self.cache_dir), lambda: data_calibration(spec, self.data, self.calibration))
        return Supplies(ArtefactCache(self.cache_dir), lambda: generated_calibration(spec))


@dataclass(frozen=True)
class Assignment:
    """What one stream is to do.

    Attributes:
        name: `stream 1`, `stream 2` …
        index: its place in the shared flags.
        case: with the device that is this stream's own; one stream of one replica.
        spec: the catalogue row.
        source: of weights, artefacts and calibration.
        cores: that it may run on, None to leave them.
        threads: that one operator may use.
        stacks: file for the stacks of a crash or a hang.
        starter: process id of the one that starts it; the stream ends with it.
    """

    name: str
    index: int
    case: Case
    spec: ModelSpec
    source: Source
    cores: tuple[int, ...] | None
    threads: int
    stacks: Path
    starter: int


@dataclass(frozen=True)
class Shared:
    """Memory that all streams see; without locks, for one who dies holding a lock would stop the others.

    Attributes:
        stop: set by the starter: end now.
        done: one byte a stream, set once it has what it wants; the window ends when all are.
        rounds: how many each has done, for the starter to see who no longer moves.
    """

    stop: Any
    done: Any
    rounds: Any


@dataclass(frozen=True)
class StreamRun:
    """What one stream did in the window. Times are of the clock that all processes share, in seconds.

    Attributes:
        name: of the stream.
        rounds_s: each request, from before `submit` until after `synchronize`.
        began_s: when its first request began.
        ended_s: when its last one ended.
    """

    name: str
    rounds_s: Sequence[float]
    began_s: float
    ended_s: float


def main(assignment: Assignment, shared: Shared, pipe: Connection) -> None:
    """Prepare, say so, wait for the start, run, say how it went. A message is a word and what goes with it."""
    die_with_starter(assignment.starter)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of a terminal; the starter ends us
    with assignment.stacks.open("w") as stacks:
        faulthandler.enable(stacks)
        faulthandler.register(STACK_SIGNAL, stacks)
        try:
            _work(assignment, shared, pipe)
        except _NotWanted:
            pass
        except (Contradiction, WrongAnswers) as denial:
            with suppress(_NotWanted):
                _tell(pipe, "denied", denial)
        except Exception:  # the boundary of the process: whatever it is, the starter raises it with its traceback
            with suppress(_NotWanted):
                _tell(pipe, "failed", traceback.format_exc())
        finally:
            faulthandler.disable()
            faulthandler.unregister(STACK_SIGNAL)


class _NotWanted(Exception):
    """The starter has closed its end."""


def _tell(pipe: Connection, word: str, value: Any) -> None:
    try:
        pipe.send((word, value))
    except OSError:
        raise _NotWanted from None


def _work(assignment: Assignment, shared: Shared, pipe: Connection) -> None:
    if assignment.cores is not None:
        os.sched_setaffinity(0, assignment.cores)
    torch.set_num_threads(assignment.threads)
    case = assignment.case
    spec, source = assignment.spec, assignment.source
    references = References(spec, source.weights)
    prepared = prepare(
        case,
        spec,
        source.weights,
        references,
        lambda text: _tell(pipe, "phase", text),
        source.supplies(spec),
        source.saved,
    )
    try:
        prepared.require_proof()
        _tell(pipe, "ready", (circumstances(prepared), prepared.batch_s))
        try:
            go_at_s, duration = pipe.recv()
        except EOFError:
            raise _NotWanted from None
        run = run_window(prepared.runner, prepared.batches, go_at_s, duration, shared, assignment)
        prepared.require_no_recompilation()
        _tell(pipe, "ran", run)
    finally:
        prepared.close()


def run_window(
    runner: Runner,
    batches: Sequence[Any],
    go_at_s: float,
    duration: Duration,
    shared: Shared,
    assignment: Assignment,
) -> StreamRun:
    """Requests, one after the other, from the common start until every stream has what it wants.

    A stream that has goes on until the others have, so that none of them has the machine to itself.
    """
    index = assignment.index
    rounds_s: list[float] = []
    while (ahead_s := go_at_s - perf_counter()) > 0:
        sleep(ahead_s)
    began_s = now_s = perf_counter()
    while not shared.stop.value:
        elapsed_s = now_s - go_at_s
        if rounds_s and duration.max_s is not None and elapsed_s >= duration.max_s:
            break
        if not wants_more(duration, len(rounds_s), elapsed_s):
            shared.done[index] = 1
            if all(shared.done):
                break
        began_round_s = perf_counter()
        runner.submit(batches[len(rounds_s) % len(batches)])
        runner.synchronize()
        now_s = perf_counter()
        rounds_s.append(now_s - began_round_s)
        shared.rounds[index] = len(rounds_s)
    return StreamRun(assignment.name, rounds_s, began_s, now_s)
