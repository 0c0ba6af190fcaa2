"""The module as it is, operator by operator."""

from __future__ import annotations

import torch

from harness.case import Case
from harness.devices import Device
from harness.engines.torch_runner import Forward, Proof, TorchRunner, place, without_int8
from harness.profile import Event, ran_dynamo
from harness.supplies import Supplies


def supports(device: Device, precision: str) -> str | None:
    """Whatever the device can compute in, but no int8."""
    return without_int8("eager", precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, supplies: Supplies
) -> TorchRunner:
    """See `Engine.build`."""
    placed = place(module, case, device)
    return TorchRunner(
        placed,
        placed,
        case,
        device,
        prove=lambda events: Proof(executed_engine(placed, events)),
    )


def executed_engine(forward: Forward, events: list[Event]) -> str:
    """What ran when `forward` was called, where that is neither a script module nor inductor's code."""
    if isinstance(forward, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return "a ScriptModule"
    return "a graph that dynamo captured" if ran_dynamo(events) else "eager"
