"""Telling what kind of forward function ran, and saving, loading and releasing TorchScript modules."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch

from harness.cases import Case
from harness.devices import Device, place_of
from harness.engines.torch.layout import CHANNELS_LAST, Layout
from harness.engines.torch.profiler import Event, ran_dynamo
from harness.engines.torch.runner import Forward, StepFindings, TorchRunner, place

FILE_NAME, LAYOUT_NAME = "model", "layout"


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
    return {FILE_NAME: out.getvalue(), LAYOUT_NAME: runner.layout.name.encode()}


def saved_layout(files: Mapping[str, bytes]) -> Layout:
    """Return the layout in which a model was saved; files without one are channels last."""
    return Layout(files.get(LAYOUT_NAME, CHANNELS_LAST.encode()).decode(), "as it was saved")


def load_script(
    files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device, *, autocasts: bool
) -> TorchRunner:
    """Return a runner of a script module that `save_script` saved. See `Saving.load`.

    Args:
        files: the files that `save_script` returned.
        module: the module with the same weights.
        case: the label.
        device: the device to run on.
        autocasts: False if autocast is already part of the script module.
    """
    layout = saved_layout(files)
    placed = place(module, case, device).to(memory_format=layout.memory_format)
    loaded = torch.jit.load(io.BytesIO(files[FILE_NAME]), map_location=place_of(device))
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
        layout=layout,
    )
