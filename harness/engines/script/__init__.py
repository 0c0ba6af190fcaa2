"""The engine `script`: TorchScript that is compiled from the module's source (torch.jit.script) and then frozen."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch

from harness.artefacts import Artefacts
from harness.cases import Case
from harness.devices import Device
from harness.engines.torch.runner import StepFindings, TorchRunner, as_it_is, autocast, lay_out, place, put
from harness.engines.torch.scripts import executed_engine, forget_scripts, load_script, save_script

WHY_NOT_WHOLE = "torchvision's forward is scripted with its own transform alone, which resizes images again"


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: every precision of the device except int8."""
    return as_it_is("script", device, precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`.

    Autocast is entered at each call and not at compilation, because it acts on the operators that the interpreter
    dispatches.
    """
    placed = place(module, case, device)
    layout = lay_out(placed, example, case, device)
    batch = put(example, case, device, layout)
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated upstream, which is no news to a user who asks for it.
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
        prove=lambda events: StepFindings(
            "script" if isinstance(frozen, torch.jit.ScriptModule) else executed_engine(frozen, events)
        ),
        on_close=forget_scripts,
        layout=layout,
    )


def save(runner: TorchRunner) -> dict[str, bytes]:
    """See `Saving.save`."""
    return save_script(runner)


def load(files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> TorchRunner:
    """See `Saving.load`."""
    return load_script(files, module, case, device, autocasts=True)
