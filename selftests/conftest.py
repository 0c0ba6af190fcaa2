"""The self-tests keep what they export and quantise to themselves: never the user's cache."""

import shutil
import tempfile

import pytest


def pytest_configure(config):
    folder = tempfile.mkdtemp(prefix="visionmark-")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.add_cleanup(patch.undo)
