"""A crew of Ray actors on the nodes of a cluster: one actor a device, each of which does one piece after the other.

Actors and not tasks, because a task would load the model again for every piece. An actor is never restarted by Ray: the
process that hands out the work notices that it is lost, and decides.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from harness.host.cores import allot, current, take
from harness.jobs.crews.cluster import ClusterNode, alive_nodes, deal, on_node
from harness.jobs.crews.crew import Heard, PieceJob, ReadyWorker
from harness.jobs.stream import stream_placements
from harness.measure.bulk.shifts import Piece
from harness.progress import no_report
from harness.proof import Contradiction
from models.tasks import WrongAnswers

# What decides a number of threads if the user does, so that it holds on every node as well.
ASKED_BY = ("--threads", "OMP_NUM_THREADS")
# So much of what Ray says of a worker that is lost, which goes on for many lines.
MOST_TEXT = 120


@dataclass(frozen=True)
class Share:
    """The part of a node that a worker has.

    Attributes:
        part: the number of the worker among those of its node, from 0.
        parts: how many those are.
        threads: the threads of an operator that all of them have together, None for what the node has.
        is_on_host: whether they compute on the host, so that the cores are divided among them.
        cpus: how many CPUs of the node are lent to it, so that nobody else is lent them.
        gpus: how many accelerators are.
    """

    part: int
    parts: int
    threads: int | None
    is_on_host: bool
    cpus: int
    gpus: int

    def take(self) -> None:
        """Use this part of the machine on which the caller runs."""
        here = allot(threads=self.threads, source="the run's own threads")
        place = stream_placements(here, self.parts, self.is_on_host)[self.part]
        take(allot(threads=place.threads, source="the job's placement", cores=place.cores))


def shares_of_cluster(
    job: PieceJob, nodes: Sequence[ClusterNode], count: int, is_on_host: bool
) -> list[tuple[PieceJob, ClusterNode, Share]]:
    """Return so many workers of one kind on the nodes of a cluster, each with its node and its part of it.

    Raises:
        NoCluster: there are more workers than places.
    """
    here = current()
    asked = here.threads if here.chosen_by in ASKED_BY else None
    dealt = deal(nodes, count, wants_gpus=not is_on_host)
    lent = (1, 0) if is_on_host else (0, 1)
    return [(job, node, Share(part, parts, asked, is_on_host, *lent)) for node, part, parts in dealt]


class _Actor:
    """A worker in its own process. Each call returns the word and the value of a message."""

    def __init__(self) -> None:
        self._ready: ReadyWorker | None = None

    def prepare(self, job: PieceJob, share: Share) -> tuple[str, Any]:
        def work() -> Any:
            share.take()
            self._ready = job.prepare(no_report)
            return self._ready.facts

        return _answer("ready", work)

    def obey(self, word: str, piece: Piece | None) -> tuple[str, Any]:
        ready = self._ready
        assert ready is not None, "told to work before it was prepared"
        if word == "warm":
            return _answer("warm", ready.warm)
        if word == "finish":
            return _answer("finished", ready.finish)
        assert piece is not None
        return _answer("done", lambda: (piece.index, ready.work(piece)))


def _answer(word: str, work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return word, work()
    except (Contradiction, WrongAnswers) as denial:
        return "denied", denial
    except Exception:  # the boundary of the process: who hands out the work raises it, with its traceback
        return "failed", traceback.format_exc()


@dataclass
class _Member:
    actor: Any
    node: ClusterNode


class RayCrew:
    """Workers as actors of a cluster. See `Crew`."""

    launcher = "ray"

    def __init__(self, jobs: Sequence[tuple[PieceJob, ClusterNode, Share]]) -> None:
        """Have one slot for each job, with its node and its part of it."""
        self._jobs = jobs
        self._members: dict[int, _Member] = {}
        self._waiting: dict[Any, int] = {}  # in the order in which they were asked for
        self._number = 0
        self._node_of: dict[str, str] = {}

    @property
    def slots(self) -> int:
        """See `Crew.slots`."""
        return len(self._jobs)

    @property
    def names(self) -> tuple[str, ...]:
        """See `Crew.names`."""
        return tuple(dict.fromkeys(node.name for _, node, _ in self._jobs))

    def node_of(self, name: str) -> str:
        """Return the name of the node on which a worker is or was, by the worker's name."""
        return self._node_of[name]

    def hire(self, slot: int) -> int | None:
        """See `Crew.hire`."""
        job, node, share = self._jobs[slot]
        if node.id not in {one.id for one in alive_nodes(ray)}:
            return None
        self._number += 1
        actor = (
            ray.remote(_Actor)
            .options(
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=on_node(node),
            )
            .remote()
        )
        self._members[self._number] = _Member(actor, node)
        self._node_of[f"worker {self._number}"] = node.name
        self._waiting[actor.prepare.remote(job, share)] = self._number
        return self._number

    def tell(self, worker: int, word: str, piece: Piece | None = None) -> None:
        """See `Crew.tell`."""
        self._waiting[self._members[worker].actor.obey.remote(word, piece)] = worker

    def hear(self, timeout_s: float) -> list[Heard]:
        """See `Crew.hear`."""
        if not self._waiting:
            return []
        ray.wait(list(self._waiting), num_returns=1, timeout=timeout_s)
        done, _ = ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        found = []
        for reference in sorted(done, key=list(self._waiting).index):
            worker = self._waiting.pop(reference, None)
            if worker is None or worker not in self._members:
                continue
            try:
                word, value = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                found.append(Heard(worker, "failed", str(error)))
            except ray.exceptions.RayError as error:
                member = self._members[worker]
                self.dismiss(worker)
                found.append(Heard(worker, "lost", _how(error, member.node)))
            else:
                if word == "ready":
                    node = self._members[worker].node.name
                    value = {**value, "where": f"{node}, {value.get('where', '')}", "node": node}
                found.append(Heard(worker, word, value))
        return found

    def dismiss(self, worker: int) -> None:
        """See `Crew.dismiss`."""
        member = self._members.pop(worker)
        self._waiting = {reference: other for reference, other in self._waiting.items() if other != worker}
        ray.kill(member.actor, no_restart=True)

    def stack_of(self, worker: int) -> str:
        """See `Crew.stack_of`."""
        return f"(`ray stack` on {self._members[worker].node.name} shows it)"

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._members):
            self.dismiss(worker)


def _how(error: Exception, node: ClusterNode) -> str:
    """Return how a worker was lost, in a few words."""
    if node.id not in {one.id for one in alive_nodes(ray)}:
        return f"was lost with its node {node.name}"
    return f"was lost on {node.name} ({type(error).__name__}: {textwrap.shorten(str(error), MOST_TEXT)})"
