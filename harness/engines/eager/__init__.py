"""The engine `eager`: the unchanged module in torch's eager mode, operator by operator."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch

from harness.artefacts import Artefacts
from harness.cases import Case
from harness.devices import Device, place_of
from harness.engines.torch.layout import Layout
from harness.engines.torch.runner import StepFindings, TorchRunner, as_it_is, lay_out, place, whole_in_torch
from harness.engines.torch.scripts import FILE_NAME, LAYOUT_NAME, executed_engine, saved_layout
from harness.engines.torch.training import StepTerms, TorchTrainingStep, place_for_training
from harness.engines.torch.training import trains as torch_trains


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: every precision of the device except int8."""
    return as_it_is("eager", device, precision)


def runs_whole(case: Case) -> str | None:
    """Return None, or the reason why a detector with suppression inside cannot run. See `harness.engines`."""
    return whole_in_torch(case)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`."""
    placed = place(module, case, device)
    return _runner(placed, case, device, lay_out(placed, example, case, device))


def trains(device: Device, precision: str) -> str | None:
    """See `Training.trains`."""
    return torch_trains("eager", device, precision)


def build_step(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, torch.Tensor],
    case: Case,
    device: Device,
    terms: StepTerms,
) -> TorchTrainingStep:
    """See `Training.build_step`."""
    placed, layout = place_for_training(module, *example, case, device, terms)
    called = terms.wrap(placed)
    return TorchTrainingStep(
        placed, called, case, device, terms, layout, prove=lambda events: StepFindings(executed_engine(called, events))
    )


def save(runner: TorchRunner) -> dict[str, bytes]:
    """See `Saving.save`. The file holds the weights in the case's number format."""
    out = io.BytesIO()
    torch.save(runner.module.state_dict(), out)
    return {FILE_NAME: out.getvalue(), LAYOUT_NAME: runner.layout.name.encode()}


def load(files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> TorchRunner:
    """See `Saving.load`."""
    layout = saved_layout(files)
    placed = place(module, case, device).to(memory_format=layout.memory_format)
    state = torch.load(io.BytesIO(files[FILE_NAME]), map_location=place_of(device), weights_only=True)
    placed.load_state_dict(state)
    return _runner(placed, case, device, layout)


def _runner(placed: torch.nn.Module, case: Case, device: Device, layout: Layout) -> TorchRunner:
    return TorchRunner(
        placed,
        placed,
        case,
        device,
        prove=lambda events: StepFindings(executed_engine(placed, events)),
        layout=layout,
    )
