"""Telling what kind of forward function ran, and saving, loading and releasing TorchScript modules."""

from __future__ import annotations

import io

import torch

from harness.cases import Case
from harness.devices import Device, place_of
from harness.engines.torch.profiler import Event, ran_dynamo
from harness.engines.torch.runner import Forward, StepFindings, TorchRunner, place

FILE_NAME = "model"


def executed_engine(forward: Forward, events: list[Event]) -> str:
    """Return a description of what ran when `forward` was called: a script module, a captured graph, or eager code."""
    if isinstance(forward, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return "a ScriptModule"
    return "a graph that dynamo captured" if ran_dynamo(events) else "eager"


def forget_scripts() -> None:
    """Drop every class and function that TorchScript has compiled.

    The weights of a frozen module are constants of its methods, and the methods belong to a registry that lives as long
    as the process. Without this function the weights of each case would stay in memory. It is safe because no other
    script module is alive when a case is closed.
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def save_script(runner: TorchRunner) -> dict[str, bytes]:
    """Return the runner's script module as a file. See `Saving.save`."""
    out = io.BytesIO()
    torch.jit.save(runner.forward, out)
    return {FILE_NAME: out.getvalue()}


def load_script(content: bytes, module: torch.nn.Module, case: Case, device: Device, *, autocasts: bool) -> TorchRunner:
    """Return a runner of a script module that `save_script` saved. See `Saving.load`.

    Args:
        content: the content of the file.
        module: the module with the same weights.
        case: the label.
        device: the device to run on.
        autocasts: False if autocast is already part of the script module.
    """
    placed = place(module, case, device)
    loaded = torch.jit.load(io.BytesIO(content), map_location=place_of(device))
    return TorchRunner(
        loaded,
        placed,
        case,
        device,
        prove=lambda events: StepFindings(
            case.engine if isinstance(loaded, torch.jit.ScriptModule) else executed_engine(loaded, events),
            notes={"loaded": True},
        ),
        autocasts=autocasts,
        on_close=forget_scripts,
    )
