"""The engine `compile`: torch.compile with inductor, frozen parameters, one static shape, and CUDA graphs on CUDA.

For int8, the module is first quantised by PT2E.
"""

from __future__ import annotations

import gc
import logging
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.evidence import Quantisation
from harness.engines.torch.profiler import Event, matrix_work, packed_operators, ran_inductor
from harness.engines.torch.pt2e import (
    QUANTISER_OF,
    cannot_quantise,
    float_layers,
    import_quantiser,
    quantised_program,
)
from harness.engines.torch.runner import Answer, StepFindings, TorchRunner, lay_out, not_a_torch_device, place, put
from harness.engines.torch.scripts import executed_engine
from harness.engines.torch.training import StepTerms, TorchTrainingStep, place_for_training
from harness.engines.torch.training import trains as torch_trains


class _Opened:
    """A sign that a runner is open. It lives as long as the runner."""


# What this process has open. All compiled graphs are forgotten together, so that they stay until the last is closed: a
# detector of two stages has two runners at once.
_OPEN: weakref.WeakSet[_Opened] = weakref.WeakSet()

WHY_NOT_WHOLE = "how many boxes there are differs from image to image, so that graphs break and are compiled again"
WHY_NOT_SAVED = "inductor keeps what it compiled in its own cache"


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: every precision of the device, and int8 where inductor has a quantiser for the device."""
    if (reason := not_a_torch_device("compile", device)) or not PRECISIONS[precision].calibrated:
        return reason
    return cannot_quantise("compile", device)


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    _be_quiet()
    import_module("torch._dynamo")
    import_module("torch._inductor.compile_fx")
    if PRECISIONS[precision].calibrated:
        import_quantiser()


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`. The model is called here already, so that the timed calls do not compile."""
    if not _OPEN:
        forget_graphs()
    _be_quiet()
    placed = place(module, case, device)
    layout = lay_out(placed, example, case, device)
    program, artefact = placed, None
    if PRECISIONS[case.precision].calibrated:
        to_device = partial(put, case=case, device=device, layout=layout)
        program, artefact = quantised_program(
            placed, to_device(example), case.model, QUANTISER_OF[device.kind], layout.name, to_device, artefacts
        )
    graphs = _records_graphs(device)
    options: dict[str, Any] = {"triton.cudagraphs": True} if graphs else {}
    compiled = torch.compile(program, dynamic=False, fullgraph=False, options=options)

    def forward(batch: torch.Tensor) -> Answer:
        if graphs:  # from here on, the output of the previous step may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        answer: Answer = compiled(batch)
        return answer

    from harness.engines.compile.operands import ConvolutionFormats  # imports inductor, which takes its time

    opened, formats = _Opened(), ConvolutionFormats()
    _OPEN.add(opened)
    runner = TorchRunner(
        forward,
        placed,
        case,
        device,
        prove=_prover(placed, program, artefact, device, artefacts),
        compilations=compilations,
        on_close=partial(_closed, opened),
        work=lambda step, events: matrix_work(events, formats.of_all()),
        layout=layout,
        # the profiler's own precautions for CUDA graphs look at the configuration of the process, not at the options
        profiling=partial(torch._inductor.config.patch, {"triton.cudagraphs": graphs}),
    )
    batch = runner.put(example)
    # Freezing is not among the options of torch.compile, because those take effect only after dynamo has traced the
    # graph and decided whether parameters are its inputs or its constants; nothing would be frozen then.
    with torch._inductor.config.patch(freezing=True, post_grad_custom_post_pass=formats):
        for _ in range(3 if graphs else 1):  # a CUDA graph is warmed up, then recorded, then replayed
            runner.submit(batch)
        runner.synchronize()
    return runner


def trains(device: Device, precision: str) -> str | None:
    """See `Training.trains`."""
    return torch_trains("compile", device, precision)


def build_step(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, torch.Tensor],
    case: Case,
    device: Device,
    terms: StepTerms,
) -> TorchTrainingStep:
    """See `Training.build_step`. Nothing is frozen, and the first step compiles a graph for each of the two passes."""
    forget_graphs()
    _be_quiet()
    placed, layout = place_for_training(module, *example, case, device, terms)
    called = terms.wrap(placed)
    return TorchTrainingStep(
        placed,
        called,
        case,
        device,
        terms,
        layout,
        forward=torch.compile(called, dynamic=False, fullgraph=False),
        prove=lambda events: StepFindings(
            "compile" if ran_inductor(events) else executed_engine(called, events),
            graphs=torch._dynamo.utils.counters["stats"]["unique_graphs"],
            graph_breaks=sum(torch._dynamo.utils.counters["graph_break"].values()),
        ),
        compilations=compilations,
        on_close=forget_graphs,
    )


def _closed(opened: _Opened) -> None:
    _OPEN.discard(opened)
    if not _OPEN:
        forget_graphs()


def _be_quiet() -> None:
    # dynamo warns on stderr that no CUDA runtime was found, even on machines where none is needed
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # fp32 without TF32 is what the label promises, and the module that is deprecated is imported by inductor itself
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    warnings.filterwarnings("ignore", ".torch.jit.script_method. is deprecated", DeprecationWarning)


def _records_graphs(device: Device) -> bool:
    """Return whether inductor records the model as a graph of kernels, which it does on CUDA only."""
    return device.kind == "cuda"


def _prover(
    placed: torch.nn.Module,
    program: torch.nn.Module,
    artefact: Artefact | None,
    device: Device,
    artefacts: Artefacts,
) -> Callable[[list[Event]], StepFindings]:
    """Return the function that reads a profiled step: `_prove`, which for int8 is given the quantisation as well."""
    if artefact is None:
        return lambda events: _prove(placed, events, device)
    left, calibration = tuple(float_layers(program)), artefacts.calibration().record()

    def prove(events: list[Event]) -> StepFindings:
        operators = matrix_work(events).count_by_dtype.get("int8", 0)
        quantisation = Quantisation(operators, left, calibration)
        return _prove(placed, events, device, quantisation, {"artefact": artefact.state})

    return prove


def _prove(
    module: torch.nn.Module,
    events: list[Event],
    device: Device,
    quantisation: Quantisation | None = None,
    notes: dict[str, Any] | None = None,
) -> StepFindings:
    counters = torch._dynamo.utils.counters
    engine = "compile" if ran_inductor(events) else executed_engine(module, events)
    if _records_graphs(device) and counters["inductor"]["cudagraph_skips"]:  # inductor only logs this
        engine += " without CUDA graphs"
    if engine == "compile" and device.is_host and not packed_operators(events) and not frozen_constants():
        engine += " without frozen parameters"
    return StepFindings(
        engine,
        graphs=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
        quantisation=quantisation,
        # tells whether compile_s is the time for compiling, or for loading what an earlier run compiled
        notes={"inductor_cache": "hit" if counters["inductor"]["fxgraph_cache_hit"] else "miss", **(notes or {})},
    )


def frozen_constants() -> int:
    """Return the number of parameters that are constants of the code which inductor has loaded since `forget_graphs`.

    A packed weight shows it too, but only where oneDNN packs: for no network without convolutions, and on few
    processors other than x86.
    """
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.freezing_utils import is_frozen_param

    loaded = [value for module in PyCodeCache.modules for value in list(vars(module).values())]
    return sum(isinstance(value, torch.Tensor) and is_frozen_param(value) for value in loaded)


def compilations() -> int:
    """Return the number of frames compiled by dynamo and of CUDA graphs recorded by inductor since `forget_graphs`."""
    counters = torch._dynamo.utils.counters
    return int(counters["frames"]["total"] + counters["inductor"]["cudagraph_recorded_non_static_inputs"])


def forget_graphs() -> None:
    """Drop every compiled graph and reset the counters, so that no state passes from one case to the next."""
    from torch._inductor.codecache import PyCodeCache

    torch._dynamo.reset()
    PyCodeCache.cache_clear()
    torch._dynamo.utils.counters.clear()
    gc.collect()
