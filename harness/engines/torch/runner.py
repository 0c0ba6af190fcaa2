"""The runner that all engines of torch return, and the functions that cast and place modules and images for it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from harness.cases import PRECISIONS, Case
from harness.devices import Device, place_of
from harness.engines.evidence import Evidence, MatrixWork, Quantisation
from harness.engines.torch.batchnorm import replace_fused_batchnorm
from harness.engines.torch.layer_times import busy_us, layer_times
from harness.engines.torch.layout import CHANNELS_LAST, CONTIGUOUS, GIVEN, Layout, known_layout, timed_layout
from harness.engines.torch.profiler import Event, matrix_work, memory_format, profile_step
from harness.host.cores import asked_threads, torch_threads
from harness.host.environment import fpmath_mode
from models.tasks import Outputs, output_names

# What a module returns: one tensor, or a tuple with a tensor for each output.
Answer = torch.Tensor | tuple[torch.Tensor, ...]
Forward = Callable[[torch.Tensor], Answer]
# Maps each device on which torch runs here to the member of `torch.profiler.ProfilerActivity` that sees its kernels.
PROFILER_ACTIVITIES: dict[str, str | None] = {"cpu": None, "cuda": "CUDA", "xpu": "XPU"}
# Devices that run plain batch norms faster. The FBNet sample found on Intel's Flex series that timm's fused layer calls
# the functional batch norm, which the Intel backend does not fuse with its neighbours.
PLAIN_BATCHNORM = ("xpu",)


@dataclass(frozen=True)
class StepFindings:
    """What an engine finds in a profiled step and in its own compiled model.

    Attributes:
        engine: what executed the step: the name of an engine in the register, or a description of something else.
        graphs: the number of captured graphs, None for an engine without graphs.
        graph_breaks: the number of graph breaks, None for an engine without graphs.
        quantisation: the outcome of quantising to int8, None for the other precisions.
        notes: further findings that are specific to the engine.
    """

    engine: str
    graphs: int | None = None
    graph_breaks: int | None = None
    quantisation: Quantisation | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def not_a_torch_device(engine: str, device: Device) -> str | None:
    """Return None, or the reason why an engine of torch does not run on a device."""
    if device.kind in PROFILER_ACTIVITIES:
        return None
    return f"{engine} runs where torch does, on {', '.join(PROFILER_ACTIVITIES)}, and not on {device.kind}"


def as_it_is(engine: str, device: Device, precision: str) -> str | None:
    """Implement `Engine.supports` for an engine without quantisation: all of torch's devices, no int8."""
    if (reason := not_a_torch_device(engine, device)) or not PRECISIONS[precision].calibrated:
        return reason
    return f"{engine} runs the module as it is, and quantises nothing: use --engine compile, onnxruntime or openvino"


def whole_in_torch(case: Case) -> str | None:
    """Return None, or why a module of torch with suppression of boxes inside it cannot run in the case's precision.

    Source: `torchvision.ops.nms` and `roi_align`, which are not implemented for bf16 on a CPU, and `nms` not for fp16.
    """
    if PRECISIONS[case.precision].weights == "float32":
        return None
    short = case.precision
    return f"torchvision's suppression is not implemented in {short}: use --precision fp32 or amp_{short}"


def place(module: torch.nn.Module, case: Case, device: Device) -> torch.nn.Module:
    """Move the module to its device, in the case's dtype and the channels-last layout. See `lay_out`."""
    if device.kind in PLAIN_BATCHNORM:
        replace_fused_batchnorm(module)
    dtype = getattr(torch, PRECISIONS[case.precision].weights)
    placed = module.to(device=place_of(device), dtype=dtype).to(memory_format=torch.channels_last)
    return placed.requires_grad_(False)


def lay_out(placed: torch.nn.Module, example: torch.Tensor, case: Case, device: Device) -> Layout:
    """Bring a placed module into the layout that is known to win, or that wins a timed trial, and return the layout.

    The trial runs the module in eager mode in both layouts, whatever the engine, because an engine that compiles would
    have to compile twice.

    Args:
        placed: the module on its device, which is changed in place.
        example: one batch of images, fp32 [batch, 3, h, w] on the host.
        case: the label.
        device: the device.
    """

    def step(layout: Layout) -> Callable[[], None]:
        batch = put(example, case, device, layout)

        def run() -> None:
            with torch.inference_mode(), autocast(case, device):
                modules[layout.name](batch)
            device.synchronize()

        return run

    chosen = known_layout(placed, is_host=device.is_host)
    if chosen is None:
        modules = {
            CHANNELS_LAST: placed,
            CONTIGUOUS: copy.deepcopy(placed).to(memory_format=torch.contiguous_format),
        }
        chosen = timed_layout({name: step(Layout(name)) for name in modules})
        modules.clear()
        device.release()
        device.reset_peak_memory()  # what the trial took is no part of the row's memory
    placed.to(memory_format=chosen.memory_format)
    return chosen


def put(images: torch.Tensor, case: Case, device: Device, layout: Layout = GIVEN) -> torch.Tensor:
    """Return images, given as fp32 [n, 3, h, w], in the case's dtype and the layout, on its device.

    Bytes stay bytes: the module that takes them converts them itself.
    """
    dtype = input_dtype(images, case)
    # the host's `put` returns the same tensor, and images that have the layout already would share its memory
    return device.put(images.to(dtype=dtype, memory_format=layout.memory_format, copy=device.is_host))


def input_dtype(images: torch.Tensor, case: Case) -> torch.dtype:
    """Return the number format in which a model of the case takes images: the case's own, but bytes as they are."""
    dtype: torch.dtype = getattr(torch, PRECISIONS[case.precision].weights)
    return dtype if images.is_floating_point() else images.dtype


def autocast(case: Case, device: Device) -> AbstractContextManager[Any]:
    """Return the autocast context of the case's precision, or a context that does nothing."""
    name = PRECISIONS[case.precision].autocast
    if name is None:
        return nullcontext()
    return torch.autocast(device.kind, dtype=getattr(torch, name), cache_enabled=False)


def evidence_of(
    module: torch.nn.Module, device: Device, layout: Layout, work: MatrixWork, found: StepFindings
) -> Evidence:
    """Return what a profiled step shows of a module of torch.

    Args:
        module: the module whose parameters and layout are told.
        device: where it runs.
        layout: the layout that was chosen for it, and why.
        work: the formats of the step's convolutions and matrix products.
        found: what the engine itself found in the step.
    """
    parameters = list(module.parameters())
    return Evidence(
        engine=found.engine,
        dtype_share_pct=work.share_pct,
        matrix_ops=work.count,
        clock=work.clock,
        parameter_devices=dict(Counter(str(p.device) for p in parameters)),
        parameter_dtypes=dict(Counter(str(p.dtype).removeprefix("torch.") for p in parameters)),
        short_formats=device.short_formats(),
        fpmath_mode=fpmath_mode(),
        memory_format=memory_format(module),
        threads={**torch_threads(), "asked": asked_threads()},
        graphs=found.graphs,
        graph_breaks=found.graph_breaks,
        quantisation=found.quantisation,
        notes={
            **found.notes,
            **work.notes(),
            "layout": {"chosen": layout.name, "why": layout.why},
            "conditions": device.conditions(),
        },
    )


class TorchRunner:
    """Runs a forward function of torch. All engines of torch return this runner."""

    def __init__(
        self,
        forward: Forward,
        module: torch.nn.Module,
        case: Case,
        device: Device,
        *,
        prove: Callable[[list[Event]], StepFindings],
        compilations: Callable[[], int] = lambda: 0,
        autocasts: bool = True,
        on_close: Callable[[], None] = lambda: None,
        work: Callable[[Callable[[], None], list[Event]], MatrixWork] = lambda step, events: matrix_work(events),
        layout: Layout = GIVEN,
        profiling: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Take over the forward function and the module whose parameters it uses.

        Args:
            forward: the function that `submit` calls.
            module: the module that holds the parameters, for the evidence.
            case: the label.
            device: the device to run on.
            prove: returns what a profiled step shows, such as the engine that ran.
            compilations: returns the number of graphs compiled so far.
            autocasts: False if autocast is already part of `forward`.
            on_close: releases what the engine itself holds.
            work: returns the convolutions and matrix products of a step, given the step and its profile.
            layout: the layout of the images, and why it was chosen.
            profiling: returns a context in which a step is profiled.
        """
        self._forward: Forward | None = forward
        self._module: torch.nn.Module | None = module
        self._names = output_names(module)
        self._case = case
        self._device = device
        self._prove = prove
        self._autocasts = autocasts and PRECISIONS[case.precision].autocast is not None
        self._on_close = on_close
        self._work = work
        self._layout = layout
        self._profiling = profiling
        self.compilations = compilations

    @property
    def layout(self) -> Layout:
        """The layout of the images, and why it was chosen."""
        return self._layout

    @property
    def forward(self) -> Forward:
        """The function that `submit` calls."""
        assert self._forward is not None, "the runner is closed"
        return self._forward

    @property
    def module(self) -> torch.nn.Module:
        """The module that holds the parameters."""
        assert self._module is not None, "the runner is closed"
        return self._module

    def put(self, images: torch.Tensor) -> torch.Tensor:
        """See `Runner.put`."""
        return put(images, self._case, self._device, self._layout)

    def submit(self, batch: torch.Tensor) -> Answer:
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

    def fetch(self, output: Answer) -> Outputs:
        """See `Runner.fetch`."""
        tensors = (output,) if isinstance(output, torch.Tensor) else output
        return Outputs(self._names, ((t.float() if t.is_floating_point() else t).cpu().numpy() for t in tensors))

    def evidence(self, batch: torch.Tensor) -> Evidence:
        """See `Inspector.evidence`."""

        def step() -> None:
            self.submit(batch)
            self.synchronize()

        with self._profiling():
            events = profile_step(step, PROFILER_ACTIVITIES[self._device.kind])
        found = evidence_of(self.module, self._device, self._layout, self._work(step, events), self._prove(events))
        return replace(found, layers=layer_times(events), busy_us=busy_us(events))

    def close(self) -> None:
        """See `Runner.close`."""
        self._forward = self._module = None
        del self._prove  # it may refer to the module
        self._on_close()
