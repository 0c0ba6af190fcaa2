"""Stands for the pytest process of `visionmark run`: writes a journal as it does, and misbehaves where it is told to.

    python cases_child.py JOURNAL STARTER CASES FAULTS

CASES are names, a line each. FAULTS is JSON of a fault for each case: `segv`, `kill`, `hang`,
`oom`, `bad_alloc`, `memory`, `lost`, `at_exit`, `exit3`, `gate` or `torn`.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path

from harness.host.parent_death import die_with_starter

IDENTITY = "same"


def main(journal, starter, cases, faults):
    die_with_starter(int(starter))
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    with Path(journal).open("a", encoding="utf-8") as file:

        def write(line):
            file.write(json.dumps(line) + "\n")
            file.flush()

        write(
            {
                "run": {"process": os.getpid()},
                "schema": 3,
                "command": [],
                "identity": os.environ.get("IDENTITY", IDENTITY),
            }
        )
        for case in cases.splitlines():
            write({"opened": case, "at_s": time.time()})
            fault = json.loads(faults).get(case)
            if fault == "torn":
                file.write('{"row": {"ca')
                file.flush()
                fault = "kill"
            misbehave(fault, case, write)
            record = {"case": case, "measurement": "latency", "model": "m", "batch": 1, "p50_ms": 2.0}
            write({"row": {**record, "p99_ms": None, "rounds": 3, "p99_missing_rounds": 33}, "rounds_s": [0.002] * 3})
            write({"closed": case, "tests": [f"t.py::test[{case}]"], "at_s": time.time()})
            if fault == "at_exit":
                os.kill(os.getpid(), signal.SIGSEGV)
    if "gate" in json.loads(faults).values():  # what pytest does where a gate at its end does not hold
        sys.exit(1)


def misbehave(fault, case, write):
    if fault == "oom":
        events = Path(os.environ["OOM_EVENTS"])
        events.write_text("oom 1\noom_kill 5\n", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault in ("segv", "kill"):
        os.kill(os.getpid(), signal.SIGSEGV if fault == "segv" else signal.SIGKILL)
    elif fault == "hang":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        stand_still()
    elif fault == "bad_alloc":
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()
    elif fault == "exit3":
        print("INTERNALERROR> planted")
        sys.exit(3)
    elif fault in ("memory", "lost"):
        error, text = ("MemoryError", "") if fault == "memory" else ("RuntimeError", "the GPU has fallen off the bus")
        write({"case": case, "outcome": "failed", "error": error, "reason": text})
        sys.exit(2)


def stand_still():
    time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
