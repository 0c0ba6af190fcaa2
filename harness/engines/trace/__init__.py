"""The engine `trace`: TorchScript that is made by tracing one batch (torch.jit.trace) and then frozen.

Autocast is active during tracing, so its casts are part of the trace.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch.jit._trace import TopLevelTracedModule

from harness.artefacts import Artefacts
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.torch.runner import (
    StepFindings,
    TorchRunner,
    as_it_is,
    autocast,
    lay_out,
    place,
    put,
    whole_in_torch,
)
from harness.engines.torch.scripts import executed_engine, forget_scripts, load_script, save_script


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: every precision of the device except int8."""
    return as_it_is("trace", device, precision)


def runs_whole(case: Case) -> str | None:
    """Return None, or the reason why a detector with suppression inside cannot run. See `harness.engines`."""
    if PRECISIONS[case.precision].autocast is not None:
        return (
            f"a trace has no casts for suppression, which runs in one format: use --engine eager for {case.precision}"
        )
    return whole_in_torch(case)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`. The module is traced under `no_grad`, because inference tensors cannot be traced."""
    placed = place(module, case, device)
    layout = lay_out(placed, example, case, device)
    batch = put(example, case, device, layout)
    with warnings.catch_warnings(), torch.no_grad(), autocast(case, device):
        # TorchScript is deprecated upstream, which is no news to a user who asks for it; it is measured because
        # deployed systems run it.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(placed, batch, check_trace=False)
        is_trace = isinstance(traced, TopLevelTracedModule)
        frozen = torch.jit.freeze(traced)
    for _ in range(2):  # the profiling executor specialises the graph in its first two calls
        with torch.inference_mode():
            frozen(batch)
    return TorchRunner(
        frozen,
        placed,
        case,
        device,
        prove=lambda events: StepFindings(
            "trace" if is_trace and isinstance(frozen, torch.jit.ScriptModule) else executed_engine(frozen, events)
        ),
        autocasts=False,
        on_close=forget_scripts,
        layout=layout,
    )


def save(runner: TorchRunner) -> dict[str, bytes]:
    """See `Saving.save`."""
    return save_script(runner)


def load(files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> TorchRunner:
    """See `Saving.load`."""
    return load_script(files, module, case, device, autocasts=False)
