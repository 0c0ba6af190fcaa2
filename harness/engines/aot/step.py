"""What a profiled step of a package shows: which kernels of which library ran, in which format and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from harness.devices import Device
from harness.engines.aot.package import Package
from harness.engines.evidence import MatrixWork, Quantisation
from harness.engines.torch.library_log import Primitive, executed_by_libraries, work_of
from harness.engines.torch.profiler import Event, innermost_matrix_ops, matrix_work
from harness.engines.torch.runner import StepFindings


class StepReader:
    """Reads the steps of one runner. `work` is called before `prove`."""

    def __init__(self, package: Package, device: Device, state: str) -> None:
        """Take what the steps are of.

        Args:
            package: the package that is loaded.
            device: the device on which it runs.
            state: whether the package was made, cached or loaded.
        """
        self._package = package
        self._device = device
        self._state = state
        self._executed: list[Primitive] = []
        self._work = MatrixWork({}, {}, "operator")

    def work(self, step: Callable[[], None], events: list[Event]) -> MatrixWork:
        """Return the matrix work of a step.

        On the host it is in the logs of oneDNN and MKL. A package calls them without torch's dispatcher, so that
        torch's profile has none of it.
        """
        if self._device.is_host:
            self._executed = executed_by_libraries(step)
            self._work = work_of(self._executed)
        else:
            self._work = matrix_work(events)
        return self._work

    def prove(self, events: list[Event]) -> StepFindings:
        """Return what else the step shows: whether the package ran, and whether its parameters are frozen."""
        engine = "aot"
        if self._device.is_host:
            by_torch = len(innermost_matrix_ops(events))
            if not self._package.folded():
                engine = "aot without frozen parameters"
            elif by_torch and by_torch >= self._work.count:  # all of the work came through torch's dispatcher
                engine = "eager"
        calibration = self._package.facts.get("calibration")
        left = tuple(self._package.facts.get("float_layers", ()))
        operators = self._work.count_by_dtype.get("int8", 0)
        return StepFindings(
            engine,
            graphs=1,
            graph_breaks=0,
            quantisation=None if calibration is None else Quantisation(operators, left, calibration),
            notes={
                "artefact": self._state,
                "made_for": dict(self._package.facts.get("made_for", {})),
                "kernels": dict(Counter(one.kernel for one in self._executed)),
            },
        )
