"""torchrun as a process that ends with the one that started it, and that tells which of its processes failed.

It is run as `python -m harness.jobs.torchrun_agent JOB.json`.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from harness.host.parent_death import die_with_starter

FAILURE = "failure.json"
# Errors that say in one line what is wrong with what was asked, of whichever process they come from.
EXPECTED = ("TrainingError", "Contradiction", "WrongAnswers", "UnreadableImage")


def main(path: Path) -> int:
    """Run torchrun with the arguments of the job, and return its exit status."""
    job = json.loads(path.read_text(encoding="utf-8"))
    die_with_starter(int(job["starter"]))
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.run import get_args_parser, run

    try:
        run(get_args_parser().parse_args(job["arguments"]))
    except ChildFailedError as error:
        message = told(error.failures)
    except RendezvousError as error:
        where = job["arguments"][job["arguments"].index("--rdzv-endpoint") + 1]
        first = str(error).strip().partition("\n")[0]
        message = (
            f"the machines do not meet at {where} ({type(error).__name__}: {first}): run the same command on each, "
            f"with an address of one of them and a port that is free there"
        )
    else:
        return 0
    (path.parent / FAILURE).write_text(json.dumps({"message": message}), encoding="utf-8")
    return 1


def told(failures: dict[int, Any]) -> str:
    """Return which process failed first, and how.

    One that a signal killed comes before those that lost it and say so, but for the signal by which torchrun ends them.
    """
    killed = [rank for rank, one in failures.items() if one.exitcode < 0 and -one.exitcode != signal.SIGTERM]
    rank = killed[0] if killed else min(failures, key=lambda one: failures[one].timestamp)
    failure = failures[rank]
    name = f"replica {rank} (pid {failure.pid})"
    if failure.exitcode < 0:
        return f"{name} was killed by {signal.Signals(-failure.exitcode).name}"
    message, stack = failure.message, ""
    if isinstance(message, dict):
        stack = str(message.get("extraInfo", {}).get("py_callstack", ""))
        message = message.get("message", "")
    kind, _, text = str(message).partition(": ")
    if kind in EXPECTED:
        return text
    return f"{name} failed: {message}" + (f"\n{stack}".rstrip() if stack else "")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
