"""The engines: one file each. This file owns the protocols and the register."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from harness.case import Case
from harness.devices import Device
from harness.engines import compile as compile_
from harness.engines import eager, ipex, onnxruntime, openvino, script, tensorrt, trace
from harness.evidence import Evidence
from harness.supplies import Supplies


class Runner(Protocol):
    """A model ready to run. It comes compiled."""

    def put(self, images: torch.Tensor) -> Any:
        """Images, fp32 [n, 3, h, w] on the host, as `submit` takes them: in the case's dtype, on its device.

        What is returned stands by itself: the images may change or go.
        """

    def submit(self, batch: Any) -> Any:
        """Start one batch; may return before the device is done. The output holds until the next `submit`."""

    def synchronize(self) -> None:
        """Return when all that was submitted is done."""

    def fetch(self, output: Any) -> npt.NDArray[np.float32]:
        """An output of `submit` as logits [n, classes] on the host."""

    def evidence(self, batch: Any) -> Evidence:
        """What one more step, profiled, shows."""

    def compilations(self) -> int:
        """How many graphs were compiled so far; growth while timing spoils a number."""

    def close(self) -> None:
        """Let go of model, device memory and compiler state."""


class Engine(Protocol):
    """A way of running a torch module."""

    def supports(self, device: Device, precision: str) -> str | None:
        """None, or the reason why this engine cannot do that."""

    def build(
        self, module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, supplies: Supplies
    ) -> Runner:
        """The module compiled for the case. It takes the module over.

        Args:
            module: fp32, on the host, in evaluation mode.
            example: one batch of images, fp32 [batch, 3, h, w] on the host.
            case: what is asked for.
            device: where to run.
            supplies: cached artefacts, and images to calibrate on.
        """


# A module with both functions is an engine.
_ENGINES: dict[str, Engine] = {
    "eager": eager,
    "trace": trace,
    "script": script,
    "compile": compile_,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ipex": ipex,
    "tensorrt": tensorrt,
}


def engine_names() -> tuple[str, ...]:
    """The engines that have a file here."""
    return tuple(_ENGINES)


def open_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        ValueError: no engine goes by that name.
    """
    if name not in _ENGINES:
        raise ValueError(f"no engine {name!r}; there are {', '.join(_ENGINES)}")
    return _ENGINES[name]


def absent(name: str) -> str | None:
    """None, or the reason why an engine's library is not here. An engine with a library of its own has `absent`."""
    reason = getattr(open_engine(name), "absent", None)
    return None if reason is None else reason()


def unsupported(case: Case, device: Device) -> str | None:
    """None, or the reason why this case cannot run, the device's before the engine's."""
    return device.supports(case.precision) or open_engine(case.engine).supports(device, case.precision)
