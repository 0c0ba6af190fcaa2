"""A pytest plugin (`-p selftests.sabotage_dying`): the engine trace takes the process with it in bf16."""

import os
import signal

from harness.engines import _ENGINES, trace


class Dying:
    supports = staticmethod(trace.supports)

    def build(self, module, example, case, device, supplies):
        if case.precision == "bf16":
            os.kill(os.getpid(), signal.SIGKILL)
        return trace.build(module, example, case, device, supplies)


def pytest_configure(config):
    _ENGINES["trace"] = Dying()
