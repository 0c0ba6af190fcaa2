"""A Ray cluster that the user names: it is joined by that name, or there is an error that says why it is not.

Ray itself would join whatever RAY_ADDRESS or a file in /tmp names, wait for minutes for one that is not there, and if
there is none start one that listens on every address of the machine. None of that happens here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from harness.files import CHECKOUT
from harness.jobs.crews.address import NoCluster, is_loopback, require_private, require_reachable, split_address
from harness.jobs.crews.versions import DifferentVersions, require_same, versions_here

REACHED_WITHIN_S = 30.0
# What the workers of a cluster take over from the process that starts them.
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class ClusterNode:
    """A machine of a cluster.

    Attributes:
        id: the name that Ray gives it.
        host: its host name and address, for a reader.
        cpus: how many CPUs it lends.
        gpus: how many accelerators it lends.
    """

    id: str
    host: str
    cpus: int
    gpus: int

    @property
    def name(self) -> str:
        """A name that tells it from other nodes on the same machine."""
        return f"{self.host} ({self.id[:6]})"


@contextmanager
def joined(address: str) -> Iterator[list[ClusterNode]]:
    """Join a cluster, and yield its nodes, which have the same versions as this machine. On exit it is left.

    Raises:
        NoCluster: it cannot be reached within 30 s, or is not the one that is meant.
        DifferentVersions: its nodes have other versions.
    """
    host, port = split_address(address)
    began_s = monotonic()
    require_reachable(host, port)
    require_private(host, port)
    try:
        import ray
    except ImportError as error:
        raise NoCluster(f"Ray is not installed: pip install -r requirements/cluster.txt ({error})") from None
    if ray.is_initialized():
        raise NoCluster("this process has joined a cluster already: leave it first (ray.shutdown())")
    try:
        _init(ray, address, host, REACHED_WITHIN_S - (monotonic() - began_s))
        nodes = alive_nodes(ray)
        require_same(versions_here(), _versions_of(ray, nodes))
        yield nodes
    finally:
        ray.shutdown()


def _init(ray: Any, address: str, host: str, left_s: float) -> None:
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    how: dict[str, Any] = {"_node_ip_address": host} if is_loopback(host) and host != "localhost" else {}
    within(
        left_s,
        lambda: ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {**variables, "PYTHONPATH": path}},
            **how,
        ),
        f"the cluster at {address}",
    )


def within(left_s: float, call: Callable[[], Any], what: str) -> Any:
    """Call something that may wait for ever, and wait for so many seconds.

    Raises:
        NoCluster: it failed, or did not return in time.
    """
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # handed over to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, left_s))
    if failed:
        text = " ".join(str(failed[0]).split())
        raise NoCluster(f"{what} cannot be joined: {text or type(failed[0]).__name__}")
    if not found:
        raise NoCluster(f"{what} does not answer within {REACHED_WITHIN_S:g} s; is it a Ray cluster, and alive?")
    return found[0]


def alive_nodes(ray: Any) -> list[ClusterNode]:
    """Return the nodes that are alive and lend a CPU, in the order of their names."""
    found = []
    for node in ray.nodes():
        lent = node.get("Resources", {})
        if node["Alive"] and lent.get("CPU", 0) >= 1:
            host = f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}"
            found.append(ClusterNode(node["NodeID"], host, int(lent["CPU"]), int(lent.get("GPU", 0))))
    return sorted(found, key=lambda node: node.name)


def on_node(node: ClusterNode) -> Any:
    """Return the scheduling strategy by which something runs on this node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def _versions_of(ray: Any, nodes: Iterable[ClusterNode]) -> dict[str, dict[str, str]]:
    """Ask every node for its versions."""
    ask = ray.remote(num_cpus=0, max_retries=0)(versions_here)
    asked = {node.name: ask.options(scheduling_strategy=on_node(node)).remote() for node in nodes}
    found = {}
    for name, reference in asked.items():
        try:
            found[name] = ray.get(reference, timeout=2 * REACHED_WITHIN_S)
        except ray.exceptions.RayError as error:
            text = str(error).strip().splitlines()[-1]
            raise DifferentVersions(f"{name} does not run this suite from {CHECKOUT}: {text}") from None
    return found


def deal(nodes: Iterable[ClusterNode], count: int, *, wants_gpus: bool) -> list[tuple[ClusterNode, int, int]]:
    """Deal out workers over the nodes in turn, each of which has as many places as it lends CPUs or accelerators.

    Returns:
        for each worker its node, its number among the workers of that node from 0, and how many those are.

    Raises:
        NoCluster: there are more workers than places.
    """
    places = {node: node.gpus if wants_gpus else node.cpus for node in nodes}
    dealt: list[tuple[ClusterNode, int]] = []
    for turn in range(max(places.values(), default=0)):
        dealt += [(node, turn) for node, room in places.items() if turn < room]
    if count > len(dealt):
        what = "accelerators" if wants_gpus else "CPUs"
        lent = ", ".join(f"{node.name} {room}" for node, room in places.items()) or "no node"
        raise NoCluster(f"{count} workers, and the cluster lends {len(dealt)} {what} ({lent}): ask for fewer workers")
    taken = dealt[:count]
    of = {node: sum(1 for other, _ in taken if other is node) for node, _ in taken}
    return [(node, turn, of[node]) for node, turn in taken]
