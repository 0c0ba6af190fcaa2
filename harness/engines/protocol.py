"""The interfaces of engines, and of the models that an engine has made ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from harness.artefacts import Artefacts
from harness.cases import Case
from harness.devices import Device
from harness.engines.evidence import Evidence
from harness.engines.torch.training import StepTerms, TorchTrainingStep
from models.tasks import Outputs


class Runner(Protocol):
    """A compiled model that is ready to run.

    A runner whose library computes on the host with threads of its own has the attribute `has_own_threads`, True, so
    that torch keeps out of their way.
    """

    def put(self, images: torch.Tensor) -> Any:
        """Return images in the form that `submit` takes: in the case's number format, on its device.

        The result shares no memory with the images, which may change or be freed afterwards.

        Args:
            images: the images, fp32 [n, 3, h, w] on the host, or uint8 where the module takes bytes.
        """

    def submit(self, batch: Any) -> Any:
        """Start one batch and return its output, which is valid until the next `submit`.

        The call may return before the device is done.
        """

    def synchronize(self) -> None:
        """Wait until all submitted work is done."""

    def fetch(self, output: Any) -> Outputs:
        """Return an output of `submit` on the host, as named fp32 arrays [n, …].

        The arrays may use memory of the library, so they are valid until the next `submit`.
        """

    def close(self) -> None:
        """Release the model, its device memory and the compiler's state."""


class Inspector(Protocol):
    """Gives the evidence of what a runner actually executes."""

    def evidence(self, batch: Any) -> Evidence:
        """Run and profile one more step, and return what it shows."""

    def compilations(self) -> int:
        """Return the number of graphs compiled so far. If it grows during timed rounds, the measurement is invalid."""


class InspectedRunner(Runner, Inspector, Protocol):
    """A runner that also gives evidence, which is what an engine builds."""


@runtime_checkable
class Fed(Protocol):
    """A runner whose later stages depend on choices of the earlier ones, which can be made as the reference made them.

    Two runs whose choices differ a little give rows that cannot be compared one by one.
    """

    def fed(self, batch: Any, reference: Outputs) -> Any:
        """Return a batch of `put` for which the reference's choices are taken.

        Args:
            batch: the batch.
            reference: the reference's answers to the images of the batch, one for each.
        """


class Engine(Protocol):
    """A way of running a torch module. A Python module with these functions is an engine."""

    def supports(self, device: Device, precision: str) -> str | None:
        """Return None, or the reason why this engine cannot run on this device in this precision."""

    def build(
        self, module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
    ) -> InspectedRunner:
        """Compile the module for the case and return the runner.

        Args:
            module: the module in fp32, on the host, in evaluation mode; the engine takes it over and may change it.
            example: one batch of images, fp32 [batch, 3, h, w] on the host, or uint8 where the module takes bytes.
            case: the case to build for.
            device: the device to run on.
            artefacts: the cache and the calibration images.
        """


@runtime_checkable
class Saving(Protocol):
    """An engine whose prepared model can be saved to a file."""

    def save(self, runner: Any) -> dict[str, bytes]:
        """Return the files that `load` needs, as a map from name to content, for a runner that this engine built."""

    def load(self, files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> InspectedRunner:
        """Return a runner of the model that `save` saved.

        Args:
            files: the files from `save`.
            module: the module with the same weights, whose parameters the evidence reports.
            case: the case that the model was saved for.
            device: the device to run on.
        """


@runtime_checkable
class Training(Protocol):
    """An engine that can train a model."""

    def trains(self, device: Device, precision: str) -> str | None:
        """Return None, or the reason why this engine does not train on this device in this precision."""

    def build_step(
        self,
        module: torch.nn.Module,
        example: tuple[torch.Tensor, torch.Tensor],
        case: Case,
        device: Device,
        terms: StepTerms,
    ) -> TorchTrainingStep:
        """Return the training step of a module. An engine that compiles does so when the first step runs.

        Args:
            module: the module in fp32, on the host; the engine takes it over and changes it.
            example: one batch of images, fp32 [batch, 3, h, w] on the host, and their classes, [batch].
            case: the case to build for.
            device: the device to train on.
            terms: the optimiser, the loss and what else the step does.
        """
