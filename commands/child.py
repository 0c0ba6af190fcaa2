"""Runs pytest as a child process that is told when this one is to end.

A scheduler sends SIGTERM to the first process of a container alone. Handed on, it ends the run in order: the child
writes what it has and ends with 143.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from harness.files import CHECKOUT

TERMINATED = 128 + signal.SIGTERM


def run_child(command: Sequence[str]) -> int:
    """Run a command in the checkout and return its exit status, negative for a signal that killed it.

    SIGTERM is handed on to the child; one that was stopped by it ends with `TERMINATED`, also where it had no time to
    hear it. This is for the main thread.

    Raises:
        KeyboardInterrupt: a person stopped it, and the child has ended.
    """
    children: list[subprocess.Popen[bytes]] = []
    is_told = False

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal is_told
        is_told = True
        for child in children:
            child.terminate()

    # before the child is there: a signal that arrives meanwhile would end this process and leave the child
    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        child = subprocess.Popen(command, cwd=CHECKOUT)
        children.append(child)
        if is_told:
            child.terminate()
        try:
            status = child.wait()
        except KeyboardInterrupt:  # it reaches the child as well, which keeps what it has
            child.wait()
            raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return TERMINATED if status == -signal.SIGTERM else status
