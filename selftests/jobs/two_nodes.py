"""A Ray cluster of two nodes on this machine's loopback, one of which may be killed in the middle.

    python -m selftests.jobs.two_nodes [--cpus N] [--kill-at N --watch FOLDER | --kill-with WORD] -- COMMAND …

It runs a command in which ADDRESS stands for that of the cluster. With --kill-at, a node with all its processes is
killed as soon as so many files `predictions-*.csv` are in the folder; with --kill-with, as soon as a process with this
word in its command line runs on it. Everything is in a network of its own, which has
the loopback alone, so that nothing of it can be reached from outside; who may not make one gets exit status 77.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil

NO_NETWORK = 77
ALONE = "VISIONMARK_ALONE_IN_NETWORK"


def enter_network():
    """Start this program again in a network of its own."""
    if ALONE in os.environ:
        return
    code = 'ip link set lo up || exit 77; exec "$0" "$@"'
    command = ["unshare", "--net", "sh", "-c", code, sys.executable, "-m", "selftests.jobs.two_nodes", *sys.argv[1:]]
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        done = subprocess.run(command, env={**os.environ, **settings, ALONE: "1"}, check=False)
    except FileNotFoundError:
        sys.exit(NO_NETWORK)
    sys.exit(NO_NETWORK if done.returncode == 1 and not _can_unshare() else done.returncode)


def _can_unshare():
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def processes_of(node):
    """The processes below a node's own."""
    (raylet,) = (one.process.pid for one in node.all_processes["raylet"])
    return psutil.Process(raylet).children(recursive=True)


def runs_on(node, word):
    """Whether a process of a node has this word in its command line."""
    for process in processes_of(node):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if word in process.cmdline():
                return True
    return False


def kill_node(cluster, node):
    """Kill a node as the loss of its machine does: with every process on it."""
    workers = processes_of(node)
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        if worker.is_running():
            worker.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--watch", type=Path)
    parser.add_argument("--kill-with")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    enter_network()

    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": asked.cpus, "include_dashboard": False})
    other = cluster.add_node(num_cpus=asked.cpus)
    cluster.wait_for_nodes()
    words = [word.replace("ADDRESS", cluster.address) for word in asked.command]
    over = threading.Event()

    def watch():
        while not over.wait(0.05):
            if asked.kill_at is None:
                is_due, when = runs_on(other, asked.kill_with), f"with {asked.kill_with}"
            else:
                is_due = len(list(asked.watch.rglob("predictions-*.csv"))) >= asked.kill_at
                when = f"at {asked.kill_at} blocks"
            if is_due:
                kill_node(cluster, other)
                print(f"killed a node {when}", flush=True)
                return

    try:
        if asked.kill_at is not None or asked.kill_with is not None:
            threading.Thread(target=watch, daemon=True).start()
        code = subprocess.run(words, check=False).returncode
    finally:
        over.set()
        cluster.shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
