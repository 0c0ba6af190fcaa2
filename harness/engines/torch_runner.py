"""What the torch engines share: casting, placing, running and profiling a module or what was made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.case import Case
from harness.devices import Device
from harness.evidence import Evidence, Quantisation, fpmath_mode
from harness.precision import PRECISIONS
from harness.profile import Event, MatrixWork, matrix_work, memory_format, profile_step
from models.build import replace_fused_batchnorm

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Proof:
    """What an engine reads off a profiled step and its own artefact.

    Attributes:
        engine: what executed, in the words of the engine table where it is one of them.
        graphs: graphs captured, None where the engine has none.
        graph_breaks: breaks in capturing them, likewise.
        quantisation: of int8, None for the other precisions.
        notes: anything that only this engine can tell.
    """

    engine: str
    graphs: int | None = None
    graph_breaks: int | None = None
    quantisation: Quantisation | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def without_int8(engine: str, precision: str) -> str | None:
    """The reason of an engine that runs a module as it is: nothing in it is quantised."""
    if not PRECISIONS[precision].calibrated:
        return None
    return f"{engine} runs the module as it is, and quantises nothing: use --engine compile, onnxruntime or openvino"


def place(module: torch.nn.Module, case: Case, device: Device) -> torch.nn.Module:
    """The module in the case's dtype, channels last, on its device.

    Channels last was the faster layout for every convolutional network and device measured so far.
    """
    if device.plain_batchnorm:
        replace_fused_batchnorm(module)
    dtype = getattr(torch, PRECISIONS[case.precision].weights)
    placed = module.to(device=device.torch_name, dtype=dtype).to(memory_format=torch.channels_last)
    return placed.requires_grad_(False)


def put(images: torch.Tensor, case: Case, device: Device) -> torch.Tensor:
    """Images fp32 [n, 3, h, w] in the case's dtype, channels last, on its device."""
    dtype = getattr(torch, PRECISIONS[case.precision].weights)
    return device.put(images.to(dtype=dtype, memory_format=torch.channels_last))


def autocast(case: Case, device: Device) -> AbstractContextManager[Any]:
    """Autocast as the precision asks, or nothing."""
    name = PRECISIONS[case.precision].autocast
    if name is None:
        return nullcontext()
    kind = device.torch_name.partition(":")[0]
    return torch.autocast(kind, dtype=getattr(torch, name), cache_enabled=False)


class TorchRunner:
    """Runs a forward function of torch; every torch engine returns one."""

    def __init__(
        self,
        forward: Forward,
        module: torch.nn.Module,
        case: Case,
        device: Device,
        *,
        prove: Callable[[list[Event]], Proof],
        compilations: Callable[[], int] = lambda: 0,
        autocasts: bool = True,
        on_close: Callable[[], None] = lambda: None,
        work: Callable[[Callable[[], None], list[Event]], MatrixWork] = lambda step, events: matrix_work(events),
    ) -> None:
        """Take over the forward function and the module whose parameters it uses.

        Args:
            forward: what `submit` calls.
            module: holds the parameters, for the evidence.
            case: the label.
            device: where it runs.
            prove: names the engine that a profiled step shows.
            compilations: how many graphs were compiled so far.
            autocasts: False where autocast is already baked into `forward`.
            on_close: what the engine itself has to let go of.
            work: reads convolutions and matrix products off a step and its profile.
        """
        self._forward: Forward | None = forward
        self._module: torch.nn.Module | None = module
        self._case = case
        self._device = device
        self._prove = prove
        self._autocasts = autocasts and PRECISIONS[case.precision].autocast is not None
        self._on_close = on_close
        self._work = work
        self.compilations = compilations

    def put(self, images: torch.Tensor) -> torch.Tensor:
        """See `Runner.put`."""
        return put(images, self._case, self._device)

    def submit(self, batch: torch.Tensor) -> torch.Tensor:
        """See `Runner.submit`."""
        assert self._forward is not None, "the runner is closed"
        with torch.inference_mode():
            if self._autocasts:
                with autocast(self._case, self._device):
                    return self._forward(batch)
            return self._forward(batch)

    def synchronize(self) -> None:
        """See `Runner.synchronize`."""
        self._device.synchronize()

    def fetch(self, output: torch.Tensor) -> npt.NDArray[np.float32]:
        """See `Runner.fetch`."""
        logits: npt.NDArray[np.float32] = output.float().cpu().numpy()
        return logits

    def evidence(self, batch: torch.Tensor) -> Evidence:
        """See `Runner.evidence`."""
        assert self._module is not None, "the runner is closed"

        def step() -> None:
            self.submit(batch)
            self.synchronize()

        events = profile_step(step, self._device.profiler_activity)
        work = self._work(step, events)
        proof = self._prove(events)
        parameters = list(self._module.parameters())
        return Evidence(
            engine=proof.engine,
            dtype_share_pct=work.share_pct,
            matrix_ops=work.count,
            clock=work.clock,
            parameter_devices=dict(Counter(str(p.device) for p in parameters)),
            parameter_dtypes=dict(Counter(str(p.dtype).removeprefix("torch.") for p in parameters)),
            tf32={
                "matmul": torch.backends.cuda.matmul.allow_tf32,
                "cudnn": torch.backends.cudnn.allow_tf32,
            }
            if torch.cuda.is_available()
            else {},
            fpmath_mode=fpmath_mode(),
            memory_format=memory_format(self._module),
            threads={"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
            graphs=proof.graphs,
            graph_breaks=proof.graph_breaks,
            quantisation=proof.quantisation,
            notes=proof.notes,
        )

    def close(self) -> None:
        """See `Runner.close`."""
        self._forward = self._module = None
        del self._prove  # it may know the module
        self._on_close()
