"""TCP ports on the loopback: reserving free ones so that nobody else gets them, and finding who listens on which.

It works on Linux only, like the server.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


class PortTaken(OSError):
    """A port that was asked for is in use; the message says what to do."""


def reserve_port() -> int:
    """Return a free port that the kernel hands to nobody else for the next minute.

    A connection to the port is made and closed, which leaves the port in TIME_WAIT. The kernel then gives it to nobody
    who asks for any free port, while a server that names it may have it if it sets SO_REUSEADDR, as Triton's three
    servers do.

    Source: the method of Yelp's ephemeral-port-reserve.
    """
    with _reusable() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        with socket.socket() as client:
            client.connect(listener.getsockname())
            accepted, _ = listener.accept()
            accepted.close()  # the side that closes first keeps the port in TIME_WAIT
            client.recv(1)
        return int(listener.getsockname()[1])


def require_free(port: int) -> int:
    """Return the port if nobody listens on it.

    Raises:
        PortTaken: if the port cannot be used; the message names it.
    """
    with _reusable() as probe:
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            raise PortTaken(f"port {port} is in use or not allowed ({error.strerror}); give another one") from None
    return port


def _reusable() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def listening_ports(pid: int) -> set[int]:
    """Return the TCP ports on which the process itself listens; the set is empty if the process has gone.

    Source: proc(5): sockets of /proc/PID/fd, states and ports of /proc/PID/net/tcp.
    """
    inodes = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # the descriptor was closed in the meantime
                target = os.readlink(entry)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and fields[9] in inodes:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
