"""Makes a process end with the process that started it, however that one ends.

Nothing heavy is imported here, because this is the first thing that such a process does.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

_PR_SET_PDEATHSIG = 1


def die_with_starter(starter: int) -> None:
    """Ask the kernel to kill this process when the process that started it ends.

    This works on Linux only; elsewhere nothing is done.

    Args:
        starter: the process id of the starter, as the starter itself gave it, because it may have ended just before.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != starter:
            os._exit(1)
