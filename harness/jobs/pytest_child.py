"""pytest as a child process that ends with the process that starts it, however that one ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# Answered by the child with the stack of every thread of it, on what its error output was at its start.
STACKS_SIGNAL = signal.SIGUSR1
_PYTEST = """
import faulthandler, os, signal, sys
from harness.host.parent_death import die_with_starter
die_with_starter(int(sys.argv[1]))
faulthandler.register(signal.SIGUSR1, file=os.dup(2), all_threads=True)
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


def pytest_command(arguments: Sequence[str], python: str = sys.executable) -> list[str]:
    """Return the command line of a child that runs pytest. It is to be started by this process, in the checkout.

    Args:
        arguments: pytest's arguments.
        python: the interpreter.
    """
    return [python, "-c", _PYTEST, str(os.getpid()), *arguments]
