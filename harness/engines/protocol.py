"""What the harness asks of an engine, and of a model that an engine has made ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from harness.artefacts import Artefacts
from harness.cases import Case
from harness.devices import Device
from harness.engines.evidence import Evidence
from models.tasks import Outputs


class Runner(Protocol):
    """A model that is ready to run. It comes compiled."""

    def put(self, images: torch.Tensor) -> Any:
        """Images, fp32 [n, 3, h, w] on the host, as `submit` takes them: in the case's format, on its device.

        What is returned stands by itself: the images may change or go.
        """

    def submit(self, batch: Any) -> Any:
        """Start one batch. It may return before the device is done. The output holds until the next `submit`."""

    def synchronize(self) -> None:
        """Return when all that was submitted is done."""

    def fetch(self, output: Any) -> Outputs:
        """An output of `submit` on the host, in fp32: named arrays [n, …] with memory of their own or the library's."""

    def close(self) -> None:
        """Let go of the model, device memory and compiler state."""


class Inspector(Protocol):
    """What proves a runner."""

    def evidence(self, batch: Any) -> Evidence:
        """What one more step, profiled, shows."""

    def compilations(self) -> int:
        """How many graphs were compiled so far. Growth while rounds are timed spoils the number."""


class InspectedRunner(Runner, Inspector, Protocol):
    """What an engine builds."""


class Engine(Protocol):
    """A way of running a torch module. It says itself on which devices it runs. A module may be one."""

    def supports(self, device: Device, precision: str) -> str | None:
        """None, or the reason why this engine cannot do that."""

    def build(
        self, module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
    ) -> InspectedRunner:
        """The module compiled for the case. The engine takes the module over.

        Args:
            module: fp32, on the host, in evaluation mode.
            example: one batch of images, fp32 [batch, 3, h, w] on the host.
            case: what is asked for.
            device: where to run.
            artefacts: the cache, and images to calibrate on.
        """


@runtime_checkable
class Saving(Protocol):
    """An engine whose prepared model can be kept in a file."""

    def save(self, runner: Any) -> dict[str, bytes]:
        """What `load` needs of a runner that this engine built: name to content."""

    def load(self, files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> InspectedRunner:
        """The runner of what `save` gave. The module, with the same weights, gives the parameters for the evidence."""
