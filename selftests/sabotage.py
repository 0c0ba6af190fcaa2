"""Sabotage of a process that is started by spawn: it takes effect where its arguments are unpickled."""

from __future__ import annotations

import time

from harness.engines import _ENGINES, eager


class Sabotaged:
    """A catalogue row that, on its way into another process, replaces the engine eager there."""

    def __init__(self, spec, kind):
        self.spec, self.kind = spec, kind

    def __reduce__(self):
        return _install, (self.spec, self.kind)


def _install(spec, kind):
    _ENGINES["eager"] = _Engine(KINDS[kind])
    return spec


class _Engine:
    def __init__(self, wrap):
        self._wrap = wrap

    def supports(self, device, precision):
        return None

    def build(self, module, example, case, device, artefacts):
        return self._wrap(eager.build(module, example, case, device, artefacts))


class _Wrapped:
    """A true runner whose `submit` misbehaves once the window has begun, which is when `evidence` lies behind."""

    def __init__(self, runner):
        self._runner = runner
        self.is_examined = False
        self.count = 0

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def compilations(self):
        self.is_examined = True  # asked at the end of preparing
        return self._runner.compilations()

    def submit(self, batch):
        self.count += self.is_examined
        if self.count > 3:
            self.misbehave()
        return self._runner.submit(batch)


class Hangs(_Wrapped):
    def misbehave(self):
        time.sleep(3600)


class Raises(_Wrapped):
    def misbehave(self):
        raise OSError("the device has fallen off the bus")


class Lags(_Wrapped):
    before = None

    def submit(self, batch):
        self.count += self.is_examined
        before, self.before = self.before, self._runner.submit(batch)
        return before if self.count > 3 else self.before


KINDS = {"hangs": Hangs, "raises": Raises, "lags": Lags}
