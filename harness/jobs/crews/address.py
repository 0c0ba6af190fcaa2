"""The address of a Ray cluster: that it names one, that something is there, and that others cannot reach it unasked."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

CONNECTED_WITHIN_S = 5.0
RAY_PROCESSES = ("gcs_server", "raylet")


@dataclass(frozen=True)
class Listener:
    """A socket on which something waits for connections.

    Attributes:
        process: the name of the process, None where this user may not see it.
        ip: the address, such as `0.0.0.0` for every one of the machine.
        port: the port.
    """

    process: str | None
    ip: str
    port: int


class NoCluster(RuntimeError):
    """A cluster cannot be used; the message says why, and what to do."""


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


def require_private(host: str, port: int, listening: Iterable[Listener] | None = None) -> None:
    """Refuse a cluster of this machine alone that others can reach: who gives the loopback did not ask for that.

    Args:
        host: the host that the user names.
        port: the port.
        listening: who listens on this machine; None to look.

    Raises:
        NoCluster: Ray listens on other addresses than the loopback.
    """
    if not is_loopback(host):
        return
    found = listeners() if listening is None else listening
    of_ray = [one for one in found if one.process in RAY_PROCESSES or one.port == port]
    open_to_all = sorted({f"{one.process or 'Ray'} on {one.ip}" for one in of_ray if not is_loopback(one.ip)})
    if open_to_all:
        raise NoCluster(
            f"{host} means this machine alone, and Ray can be reached from others there ({', '.join(open_to_all)}), "
            f"who could run what they like: start it in a network of its own (unshare --net), or give the address by "
            f"which the cluster is meant to be reached"
        )


def listeners() -> list[Listener]:
    """Return the sockets on which something on this machine waits for TCP connections."""
    found = []
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            address: Any = connection.laddr
            try:
                name = psutil.Process(connection.pid).name() if connection.pid else None
            except psutil.NoSuchProcess:
                continue
            found.append(Listener(name, str(address.ip), int(address.port)))
    return found
