"""The self-tests keep what they export and quantise to themselves: never the user's cache.

They compute on one thread each: tiny networks gain nothing by more, and on a busy machine threads wait for each other.
"""

import os
import shutil
import signal
import tempfile

import pytest


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs them in the background has them ignore it, and so would all that they start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tempfile.mkdtemp(prefix="visionmark-")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", folder)
    patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.add_cleanup(patch.undo)
