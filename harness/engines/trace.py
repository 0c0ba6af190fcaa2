"""TorchScript by tracing one batch, then frozen. Autocast is baked in by the trace."""

from __future__ import annotations

import warnings

import torch
from torch.jit._trace import TopLevelTracedModule

from harness.case import Case
from harness.devices import Device
from harness.engines.eager import executed_engine
from harness.engines.torch_runner import Proof, TorchRunner, autocast, place, put, without_int8
from harness.supplies import Supplies


def supports(device: Device, precision: str) -> str | None:
    """Whatever the device can compute in, but no int8."""
    return without_int8("trace", precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, supplies: Supplies
) -> TorchRunner:
    """See `Engine.build`. Traced under `no_grad`: inference tensors cannot be traced."""
    placed = place(module, case, device)
    batch = put(example, case, device)
    with warnings.catch_warnings(), torch.no_grad(), autocast(case, device):
        # TorchScript is deprecated upstream, which is no news to one who asks for it; it is measured because
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
        prove=lambda events: Proof(
            "trace" if is_trace and isinstance(frozen, torch.jit.ScriptModule) else executed_engine(frozen, events)
        ),
        autocasts=False,
        on_close=forget_scripts,
    )


def forget_scripts() -> None:
    """Drop every class and function that TorchScript has compiled.

    A frozen module's weights are constants of its methods, and those belong to a registry that lives as long as the
    process: without this each case leaves its weights behind. No other script module is alive when a case is closed.
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()
