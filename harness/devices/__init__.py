"""The devices: one file each. This file owns the protocol and the register, and is told by name which to open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from harness.devices.cpu import Cpu
from harness.devices.cuda import Cuda
from harness.devices.xpu import Xpu


class SideStream(Protocol):
    """A queue of work on a device beside torch's default one. A device's `synchronize` waits for it as well."""

    @property
    def handle(self) -> int:
        """The native handle."""

    def wait_for_default(self) -> None:
        """Let what is queued here from now on run after what torch has queued so far."""


class Device(Protocol):
    """What the harness asks of a device. `synchronize` has no default: a device without one cannot be timed."""

    @property
    def name(self) -> str:
        """The name as in a case id: `cpu`, `cuda`, `cuda:1`."""

    @property
    def torch_name(self) -> str:
        """The name as torch takes it, with the index where there are several."""

    @property
    def profiler_activity(self) -> str | None:
        """The member of `torch.profiler.ProfilerActivity` that sees this device's kernels, or None for the host."""

    @property
    def plain_batchnorm(self) -> bool:
        """Whether plain batch norm and activation beat timm's fused layer here."""

    @property
    def cuda_graphs(self) -> bool:
        """Whether inductor may record the model as a graph of kernels."""

    @property
    def openvino_name(self) -> str | None:
        """The name as OpenVINO takes it, or None where it has no plugin for it."""

    @property
    def onnxruntime_provider(self) -> str | None:
        """ONNX Runtime's execution provider for it, or None where it has none."""

    @property
    def runs_tensorrt(self) -> bool:
        """Whether TensorRT runs on it."""

    @property
    def inductor_quantiser(self) -> str | None:
        """The int8 quantiser that inductor has kernels for here (see `pt2e`), or None."""

    def available(self) -> str | None:
        """None, or the reason why this device cannot be used here."""

    def supports(self, precision: str) -> str | None:
        """None, or the reason why this device cannot compute in this precision."""

    def settings(self, *, tf32: bool) -> AbstractContextManager[None]:
        """The process-wide switches that a case needs, put back on leaving."""

    def synchronize(self) -> None:
        """Return when all submitted work is done."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """The batch on this device."""

    def side_stream(self) -> SideStream:
        """A queue of its own, for libraries that are told where to queue their work."""

    def reset_peak_memory(self) -> None:
        """Start a new watch of the peak."""

    def peak_memory(self) -> int | None:
        """Bytes at the highest since `reset_peak_memory`; None where it cannot be told."""

    def release(self) -> None:
        """Give memory that is cached but unused back."""

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """What the device is: name, driver, memory …, flat."""


_DEVICES: dict[str, Callable[[int | None], Device]] = {"cpu": Cpu, "cuda": Cuda, "xpu": Xpu}


def device_names() -> tuple[str, ...]:
    """The kinds of devices that have a file here."""
    return tuple(_DEVICES)


def open_device(name: str) -> Device:
    """The device of that name (`cuda`, `cuda:1`), whether or not it is present.

    Raises:
        ValueError: no device goes by that name.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES or (index and not index.isdigit()) or name.endswith(":"):
        raise ValueError(f"no device {name!r}; there are {', '.join(_DEVICES)}, and cuda:1 or xpu:1 for one of several")
    return _DEVICES[kind](int(index) if index else None)
