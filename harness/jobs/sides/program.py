"""What runs in the process of a side. It is started as a file, so that another revision's `harness` can be under it.

From `harness` and `models` it takes only what earlier revisions have too, and only when it is told what to run. What it
is told and what it answers are plain values, but for images to calibrate on.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

# After a block the side answers when its threads stand still: when in so many seconds they use less than that share of
# a core. A library may let them spin for as long as they may last, and no longer is waited.
_STILL_S = 0.005
_STILL_SHARE = 0.1
_MOST_STILL_S = 1.0
# Of a shorter time between two blocks of the same side, most is taken by waking and by reading the message.
_LEAST_IDLE_S = 0.05


def main(starter: int, pipe: Connection) -> None:
    """Prepare a case as it is told, and run blocks of rounds when it is asked.

    Args:
        starter: the id of the process that started this one.
        pipe: the connection to it.
    """
    from harness.host.parent_death import die_with_starter

    die_with_starter(starter)
    asked: dict[str, Any] = pipe.recv()
    from harness.jobs.worker import guarded

    guarded(starter, Path(asked["stacks"]), pipe, lambda: _serve(asked, pipe))


def _serve(asked: dict[str, Any], pipe: Connection) -> None:
    from harness.cases import Case
    from harness.devices import open_device
    from harness.engines import unsupported
    from harness.jobs.job import Placement
    from harness.jobs.stream import BuildInputs, StreamJob
    from harness.jobs.worker import take_place, tell
    from models.catalog import find_spec, load_catalog

    take_place(Placement(tuple(asked["cores"]), asked["threads"], asked["node"]))
    case = Case.parse(asked["case"])
    if reason := unsupported(case, open_device(case.device)):
        tell(pipe, "unsupported", reason)
        return
    weights = asked["weights"] if asked["weights"] in ("random", "pretrained") else Path(asked["weights"])
    inputs = BuildInputs(weights, Path(asked["cache_dir"]), asked["data"], tuple(asked["calibration"]))
    job = StreamJob(asked["name"], case, find_spec(case.model, load_catalog()), inputs)
    ready = job.prepare(lambda text: tell(pipe, "phase", text))
    try:
        facts = {**ready.facts, "environment": _environment(case.device, asked["variables"])}
        tell(pipe, "ready", (facts, ready.step_s))
        _take_turns(ready.prepared, asked["name"], pipe)
    finally:
        ready.close()


def _environment(device: str, variables: list[str]) -> dict[str, Any]:
    """Return the environment of this process, and that it is the one that was asked for."""
    import harness
    from harness.devices import open_device
    from harness.host.environment import describe_environment

    checkout = Path(str(harness.__file__)).resolve().parents[1]
    return {
        **describe_environment([open_device(device)], checkout),
        "checkout": str(checkout),
        "prefix": sys.prefix,
        "asked_variables": {name: os.environ.get(name) for name in variables},
    }


def _take_turns(prepared: Any, name: str, pipe: Connection) -> None:
    """Run a block each time that it is asked for. In between, the process waits for a message and does nothing."""
    from harness.jobs.worker import NotWanted, tell
    from harness.proof import LastAnswer

    last, runner, batches, turn = LastAnswer(prepared), prepared.runner, prepared.batches, 0
    idle_s, used_s = perf_counter(), process_time()
    while True:
        try:
            word, rounds, untimed = pipe.recv()
        except EOFError:
            raise NotWanted from None
        idle_s, used_s = perf_counter() - idle_s, process_time() - used_s
        if word == "end":
            last.check(f"the turns of {name}")
            prepared.require_no_recompilation()
            tell(pipe, "ended", None)
            return
        rounds_s = []
        for index in range(untimed + rounds):
            batch = batches[turn % len(batches)]
            began_s = perf_counter()
            output = runner.submit(batch)
            runner.synchronize()
            ended_s = perf_counter()
            turn += 1
            if index >= untimed:
                rounds_s.append(ended_s - began_s)
        last.note(output, batch)
        _stand_still()
        tell(pipe, "block", (rounds_s, 100 * used_s / idle_s if idle_s >= _LEAST_IDLE_S else None))
        idle_s, used_s = perf_counter(), process_time()


def _stand_still() -> None:
    """Wait until the threads of this process do nothing any more."""
    late_s = perf_counter() + _MOST_STILL_S
    while perf_counter() < late_s:
        began_s, used_s = perf_counter(), process_time()
        sleep(_STILL_S)
        if process_time() - used_s < _STILL_SHARE * (perf_counter() - began_s):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), Connection(int(sys.argv[2])))
