"""A process that another one starts ends with it, however that one ends. Imports nothing heavy: it comes first."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

_PR_SET_PDEATHSIG = 1


def die_with_starter(starter: int) -> None:
    """Ask the kernel to kill this process when the one that started it ends. Linux only; elsewhere nothing is done.

    Args:
        starter: process id of the one that started us, as it gave it, for it may have ended just before.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != starter:
            os._exit(1)
