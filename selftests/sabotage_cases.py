"""A pytest plugin (`-p selftests.sabotage_cases`) for processes of `visionmark run`: some cases take it with them.

SABOTAGE is JSON of a fault for each case that has one: `segv`, `hang`, `memory` or `kill`.
"""

import ctypes
import json
import os
import resource
import signal
import time

import pytest

from fixtures.one_case import name_of


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    fault = json.loads(os.environ["SABOTAGE"]).get(name_of(item))
    if fault == "segv":
        ctypes.string_at(0)
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "memory":
        with open("/proc/self/statm", encoding="utf-8") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, resource.getrlimit(resource.RLIMIT_AS)[1]))
        bytearray(2**31)
