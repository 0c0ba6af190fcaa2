"""A compiled PopTorch program, and the runner of it. It runs in this process: one program at a time on an IPU."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from harness.cases import PRECISIONS, Case
from harness.devices import Device, place_of
from harness.engines.evidence import Evidence
from harness.engines.poptorch.checks import counter_denials, graph_denials, iteration_ms
from harness.engines.poptorch.graph import CLOCK, NoGraph, read_compiled_graph
from harness.engines.poptorch.options import described
from harness.host.cores import asked_threads, torch_threads
from models.tasks import Outputs, output_names

GRAPH_NAME = "graph.json"


class IpuError(RuntimeError):
    """The SDK refused a program, or failed while it ran; the message has its words."""


class IpuBusy(IpuError):
    """No IPU is free: another process, or another program of this one, holds it."""


class IpuOutOfMemory(IpuError):
    """The program does not fit into the memory of the IPU's tiles."""


class Overlapped(torch.nn.Module):
    """A model whose input and output are copied while it computes, on tiles of their own."""

    def __init__(self, library: Any, model: torch.nn.Module) -> None:
        """Take the module `poptorch` and the model."""
        super().__init__()
        self.library = library
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        """Return the model's answer."""
        poptorch = self.library
        mode = poptorch.OverlapMode.OverlapDeviceIterationLoop
        return poptorch.set_overlap_for_output(self.model(poptorch.set_overlap_for_input(images, mode)), mode)


class Program:
    """A module that is compiled for one shape and attached to an IPU."""

    def __init__(self, library: Any, module: torch.nn.Module, options: Any, batch: torch.Tensor) -> None:
        """Compile and attach.

        Raises:
            IpuBusy: no IPU is free.
            IpuOutOfMemory: the program does not fit.
            IpuError: the SDK refused it for another reason.
        """
        self._library = library
        self.options = options
        self.compilations = 0
        self._hook = library.registerPreCompileHook(self._count)
        self._executor: Any = library.inferenceModel(module, options)
        try:
            with torch.no_grad():
                self._executor.compile(batch)
        except library.Error as error:
            self.close()
            raise _typed(error, batch) from None

    def _count(self) -> None:
        self.compilations += 1

    @property
    def executor(self) -> Any:
        """PopTorch's executor."""
        assert self._executor is not None, "the program is closed"
        return self._executor

    def run(self, batch: torch.Tensor) -> Any:
        """Run the program on a batch on the host, and return its answer on the host.

        Raises:
            IpuError: the SDK failed.
        """
        try:
            with torch.no_grad():
                return self.executor(batch)
        except self._library.Error as error:
            raise _typed(error, batch) from None

    def graph(self) -> str:
        """Return PopART's text of the graph that was compiled."""
        text: str = self.executor._debugGetPopartIR()
        return text

    def counters(self) -> dict[str, list[list[float]]]:
        """Return the seconds at which each step of the last call began and ended; see PopTorch's `getPerfCounters`."""
        found: dict[str, list[list[float]]] = self.executor.getPerfCounters()
        return found

    def close(self) -> None:
        """Let the IPU go."""
        self._hook.remove()
        if self._executor is not None:
            self._executor.destroy()
        self._executor = None
        gc.collect()


def require_graph(text: str) -> str:
    """Return the text of a graph.

    Raises:
        IpuError: there is none, so that nothing would tell what the program is.
    """
    try:
        read_compiled_graph(text)
    except NoGraph as error:
        raise IpuError(
            f"{error}; an executable that another cache kept has no graph: unset POPTORCH_CACHE_DIR"
        ) from None
    return text


def _typed(error: Exception, batch: torch.Tensor) -> IpuError:
    """Return the failure that PopTorch's error stands for; PopTorch has one class for nearly all of them."""
    text = " ".join(str(error).split())
    if "Failed to acquire" in text:
        return IpuBusy(f"no IPU is free ({text}); end what holds it, or ask for another one by --device ipu:N")
    if "out of memory" in text.lower():
        return IpuOutOfMemory(
            f"{len(batch)} images a submit do not fit into the IPU ({text}); give a smaller --batch-size, or more "
            f"stages by --pipeline-splits"
        )
    return IpuError(f"PopTorch: {text}")


class PopTorchRunner:
    """Runs a program. Every submit is a whole run: input in, answer out."""

    def __init__(
        self,
        program: Program,
        module: torch.nn.Module,
        case: Case,
        device: Device,
        graph: str,
        state: str,
        on_close: Callable[[], None],
    ) -> None:
        """Take over the program.

        Args:
            program: the compiled program.
            module: the module that it was compiled from.
            case: the label.
            device: the device.
            graph: the text of the graph that was compiled.
            state: whether the program was made or cached.
            on_close: releases what the engine holds.
        """
        self._program: Program | None = program
        self._module: torch.nn.Module | None = module
        self._names = output_names(module)
        self._case = case
        self._device = device
        self._graph = graph
        self._state = state
        self._on_close = on_close

    @property
    def program(self) -> Program:
        """The compiled program."""
        assert self._program is not None, "the runner is closed"
        return self._program

    def put(self, images: torch.Tensor) -> torch.Tensor:
        """See `Runner.put`: a contiguous copy on the host, because any other is copied in every call."""
        dtype = getattr(torch, PRECISIONS[self._case.precision].weights)
        kept = dtype if images.is_floating_point() else images.dtype
        return images.to(kept, copy=True).contiguous()

    def submit(self, batch: torch.Tensor) -> Any:
        """See `Runner.submit`."""
        return self.program.run(batch)

    def synchronize(self) -> None:
        """See `Runner.synchronize`: a call returns when its answer is on the host."""
        self._device.synchronize()

    def fetch(self, output: Any) -> Outputs:
        """See `Runner.fetch`."""
        tensors = (output,) if isinstance(output, torch.Tensor) else output
        return Outputs(self._names, ((t.float() if t.is_floating_point() else t).numpy() for t in tensors))

    def evidence(self, batch: torch.Tensor) -> Evidence:
        """See `Inspector.evidence`: from the compiled graph and from the counters of two more calls."""
        assert self._module is not None, "the runner is closed"
        self.submit(batch)
        before = self.program.counters()
        self.submit(batch)
        after = self.program.counters()
        graph = read_compiled_graph(self._graph)
        parameters = list(self._module.parameters())
        used_model = bool(self.program.options.toDict().get("use_model", False))
        return Evidence(
            engine="poptorch on the IPU model, a simulator" if used_model else "poptorch",
            dtype_share_pct=graph.share_pct,
            matrix_ops=graph.matrix_ops,
            clock=CLOCK,
            parameter_devices={place_of(self._device): len(parameters)},
            parameter_dtypes=dict(Counter(str(one.dtype).removeprefix("torch.") for one in parameters)),
            short_formats=self._device.short_formats(),
            fpmath_mode=None,
            memory_format="contiguous",
            threads={**torch_threads(), "asked": asked_threads()},
            graphs=1,
            denials=(
                *graph_denials(self._case, graph),
                *counter_denials(self._case, before, after),
                *([] if self.program.executor.isAttachedToDevice() else ["the program is not attached to an IPU"]),
            ),
            notes={
                "artefact": self._state,
                "options": described(self._case),
                "operators": graph.types,
                "partials": graph.partials,
                "stages": list(graph.stages),
                "iteration_ms": iteration_ms(after),
                "copies_in_submit": True,
                "conditions": self._device.conditions(),
            },
        )

    def compilations(self) -> int:
        """See `Inspector.compilations`."""
        return self.program.compilations

    def close(self) -> None:
        """See `Runner.close`."""
        if self._program is not None:
            self._program.close()
            self._on_close()
        self._program = self._module = None
