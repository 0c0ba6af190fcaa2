"""TorchScript by compiling the module's source, then frozen."""

from __future__ import annotations

import warnings

import torch

from harness.case import Case
from harness.devices import Device
from harness.engines.eager import executed_engine
from harness.engines.torch_runner import Proof, TorchRunner, autocast, place, put, without_int8
from harness.engines.trace import forget_scripts
from harness.supplies import Supplies


def supports(device: Device, precision: str) -> str | None:
    """Whatever the device can compute in, but no int8."""
    return without_int8("script", precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, supplies: Supplies
) -> TorchRunner:
    """See `Engine.build`. Autocast acts on the operators that the interpreter dispatches, so it stays outside."""
    placed = place(module, case, device)
    batch = put(example, case, device)
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated upstream, which is no news to one who asks for it.
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(placed)
        frozen = torch.jit.freeze(scripted)
    for _ in range(2):  # the profiling executor specialises the graph in its first two calls
        with torch.inference_mode(), autocast(case, device):
            frozen(batch)
    return TorchRunner(
        frozen,
        placed,
        case,
        device,
        prove=lambda events: Proof(
            "script" if isinstance(frozen, torch.jit.ScriptModule) else executed_engine(frozen, events)
        ),
        on_close=forget_scripts,
    )
