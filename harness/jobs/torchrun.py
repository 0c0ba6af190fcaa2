"""Starting processes that train together by torchrun, and telling which of them failed, and how.

torchrun runs in a process of its own, `torchrun_agent`, which ends with this one however this one ends, and so do the
processes that it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT
from harness.host.cores import PhysicalCore, share_out
from harness.jobs.job import Placement
from harness.jobs.spawn import JobFailed

# The time that torchrun has for ending its processes after Ctrl-C before it is killed.
END_WITHIN_S = 15.0
# How long a machine waits for the address at which all meet, and for the others once it is there.
REACH_WITHIN_S, JOIN_WITHIN_S = 25, 600
AGENT, RECORD, FAILURE = "harness.jobs.torchrun_agent", "record.json", "failure.json"


@dataclass(frozen=True)
class Together:
    """How many processes train together, and where.

    Attributes:
        replicas: the processes of this machine.
        nodes: the machines.
        rendezvous: HOST:PORT where the machines meet, None for one machine.
        max_restarts: how often all processes begin again when one has failed.
    """

    replicas: int
    nodes: int = 1
    rendezvous: str | None = None
    max_restarts: int = 0

    @property
    def size(self) -> int:
        """The processes of all machines."""
        return self.replicas * self.nodes

    def arguments(self, folder: Path) -> list[str]:
        """Return torchrun's arguments. What processes print goes into `folder`, but for the first, which prints."""
        others = ",".join(f"{rank}:3" for rank in range(1, self.replicas))
        found = [
            *("--nproc-per-node", str(self.replicas), "--nnodes", str(self.nodes), "--monitor-interval", "0.1"),
            *("--max-restarts", str(self.max_restarts), "--log-dir", str(folder / "logs")),
            *(("--redirects", others) if others else ()),
        ]
        if self.rendezvous is None:
            return [*found, "--standalone"]
        host = self.rendezvous.rpartition(":")[0]
        is_loopback = host == "localhost" or host.startswith("127.")
        return [
            *found,
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", self.rendezvous, "--rdzv-id", "visionmark"),
            *("--rdzv-conf", f"read_timeout={REACH_WITHIN_S},join_timeout={JOIN_WITHIN_S}"),
            *(("--local-addr", host) if is_loopback else ()),
        ]


def placements(cores: Sequence[PhysicalCore], replicas: int, threads: int | None) -> list[Placement]:
    """Return for each process its share of the physical cores, and as many threads, or as many as are asked for.

    On a machine of several NUMA nodes a share that lies on one of them has its memory there too.
    """
    are_several = len({core.node for core in cores}) > 1
    return [
        Placement(
            tuple(sorted(cpu for core in share for cpu in core.cpus)),
            threads or len(share),
            share[0].node if are_several and len({core.node for core in share}) == 1 else None,
        )
        for share in share_out(cores, replicas)
    ]


def run_together(
    program: str, work: Mapping[str, Any], together: Together, places: Sequence[Placement]
) -> dict[str, Any] | None:
    """Run a program in processes that train together, and return the record that the first of them wrote.

    Args:
        program: the module to run, which takes the path of a JSON file with `work`, `places` and `folder`.
        work: what the program needs, serialisable as JSON.
        together: how many processes, and where.
        places: the part of this machine that each process may use.

    Returns:
        The record, or None where the first process is on another machine.

    Raises:
        JobFailed: a process failed, or the machines do not find each other; one line says which, and why.
    """
    with tempfile.TemporaryDirectory(prefix="visionmark-train-") as name:
        folder = Path(name)
        job = {
            "starter": os.getpid(),
            "arguments": [*together.arguments(folder), "-m", program, str(folder / "job.json")],
            "folder": name,
            "places": [{"cpus": one.cores, "threads": one.threads, "node": one.node} for one in places],
            "work": dict(work),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        # torchrun sets one thread where nothing is set; a program that binds itself counts its own
        environment = {**os.environ, "OMP_NUM_THREADS": str(places[0].threads), "PYTHONPATH": _path()}
        environment.setdefault("LOGLEVEL", "CRITICAL")  # torchrun's own report of a failure is half a page; ours a line
        agent = subprocess.Popen([sys.executable, "-m", AGENT, str(folder / "job.json")], env=environment)
        try:
            code = agent.wait()
        except BaseException:
            with suppress(subprocess.TimeoutExpired):
                agent.terminate()
                agent.wait(END_WITHIN_S)
            agent.kill()  # whose processes end with it
            agent.wait()
            raise
        done = sorted(folder.glob("done_*"))
        if code or len(done) != together.replicas:
            raise JobFailed(_failure(folder, code, len(done), together))
        record = folder / RECORD
        found: dict[str, Any] | None = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
        return found


def _path() -> str:
    return os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _failure(folder: Path, code: int, done: int, together: Together) -> str:
    path = folder / FAILURE
    if path.exists():
        return str(json.loads(path.read_text(encoding="utf-8"))["message"])
    how = f"torchrun ended with {code}" if code >= 0 else f"torchrun was killed by signal {-code}"
    return f"{how}, and {done} of its {together.replicas} processes were done"
