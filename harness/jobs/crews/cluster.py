"""A Ray cluster that the user names: it is joined by that name, or there is an error that says why it is not.

Ray itself would join whatever RAY_ADDRESS or a file in /tmp names, wait for minutes for one that is not there, and if
there is none start one that listens on every address of the machine. None of that happens here.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psutil

from harness.files import CHECKOUT
from harness.jobs.crews.versions import DifferentVersions, require_same, versions_here

REACHED_WITHIN_S = 30.0
CONNECTED_WITHIN_S = 5.0
RAY_PROCESSES = ("gcs_server", "raylet")
# What the workers of a cluster take over from the process that starts them.
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE")


class NoCluster(RuntimeError):
    """A cluster cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Node:
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


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of an address that names one cluster.

    Raises:
        NoCluster: it is not HOST:PORT, or RAY_ADDRESS names another cluster.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise NoCluster(f"{address!r} is no HOST:PORT of a Ray cluster; the node that ran `ray start --head` prints it")
    other = os.environ.get("RAY_ADDRESS")
    if other not in (None, "", address):
        raise NoCluster(f"RAY_ADDRESS names another cluster, {other}, than {address}: unset it, or give the same")
    return host, int(port)


def require_reachable(host: str, port: int) -> None:
    """Check that something listens there, because Ray itself would try for minutes.

    Raises:
        NoCluster: nothing does.
    """
    try:
        socket.create_connection((host, port), timeout=CONNECTED_WITHIN_S).close()
    except OSError as error:
        raise NoCluster(
            f"no cluster at {host}:{port} ({error}): start one there with `ray start --head --port {port}`, or correct "
            f"the address"
        ) from None


def is_loopback(address: str) -> bool:
    """Return whether an address of the Internet Protocol, or the name localhost, means this machine alone."""
    plain = address.removeprefix("::ffff:")
    return plain.startswith("127.") or plain in ("::1", "localhost")


def require_private(host: str, listening: Iterable[tuple[str, str]] | None = None) -> None:
    """Refuse a cluster of this machine alone that others can reach: who gives the loopback did not ask for that.

    Args:
        host: the host that the user names.
        listening: the name of each process that listens, and the address that it listens on; None for what is.

    Raises:
        NoCluster: Ray listens on other addresses than the loopback.
    """
    if not is_loopback(host):
        return
    found = listening_processes() if listening is None else listening
    open_to_all = sorted({f"{name} on {ip}" for name, ip in found if name in RAY_PROCESSES and not is_loopback(ip)})
    if open_to_all:
        raise NoCluster(
            f"{host} means this machine alone, and Ray can be reached from others there ({', '.join(open_to_all)}), "
            f"who could run what they like: start it in a network of its own (unshare --net), or give the address by "
            f"which the cluster is meant to be reached"
        )


def listening_processes() -> list[tuple[str, str]]:
    """Return the names of the processes that listen for TCP connections here, each with the address."""
    found = []
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.pid:
            try:
                address: Any = connection.laddr
                found.append((psutil.Process(connection.pid).name(), str(address.ip)))
            except psutil.NoSuchProcess:
                continue
    return found


@contextmanager
def joined(address: str) -> Iterator[list[Node]]:
    """Join a cluster, and yield its nodes, which have the same versions as this machine. On exit it is left.

    Raises:
        NoCluster: it cannot be reached within 30 s, or is not the one that is meant.
        DifferentVersions: its nodes have other versions.
    """
    host, port = split_address(address)
    try:
        import ray
    except ImportError as error:
        raise NoCluster(f"Ray is not installed: pip install -r requirements/cluster.txt ({error})") from None
    began_s = monotonic()
    require_reachable(host, port)
    require_private(host)
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


def alive_nodes(ray: Any) -> list[Node]:
    """Return the nodes that are alive and lend a CPU, in the order of their names."""
    found = []
    for node in ray.nodes():
        lent = node.get("Resources", {})
        if node["Alive"] and lent.get("CPU", 0) >= 1:
            host = f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}"
            found.append(Node(node["NodeID"], host, int(lent["CPU"]), int(lent.get("GPU", 0))))
    return sorted(found, key=lambda node: node.name)


def on_node(node: Node) -> Any:
    """Return the scheduling strategy by which something runs on this node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def _versions_of(ray: Any, nodes: Iterable[Node]) -> dict[str, dict[str, str]]:
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


def deal(nodes: Iterable[Node], count: int, *, wants_gpus: bool) -> list[tuple[Node, int, int]]:
    """Deal out workers over the nodes in turn, each of which has as many places as it lends CPUs or accelerators.

    Returns:
        for each worker its node, its number among the workers of that node from 0, and how many those are.

    Raises:
        NoCluster: there are more workers than places.
    """
    places = {node: node.gpus if wants_gpus else node.cpus for node in nodes}
    dealt: list[tuple[Node, int]] = []
    for turn in range(max(places.values(), default=0)):
        dealt += [(node, turn) for node, room in places.items() if turn < room]
    if count > len(dealt):
        what = "accelerators" if wants_gpus else "CPUs"
        lent = ", ".join(f"{node.name} {room}" for node, room in places.items()) or "no node"
        raise NoCluster(f"{count} workers, and the cluster lends {len(dealt)} {what} ({lent}): ask for fewer workers")
    taken = dealt[:count]
    of = {node: sum(1 for other, _ in taken if other is node) for node, _ in taken}
    return [(node, turn, of[node]) for node, turn in taken]
