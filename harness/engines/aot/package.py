"""A package of AOTInductor: what it was made for, how it is made, and how it is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from harness.artefacts.saved_model import OtherModel
from harness.devices import Device
from harness.engines.torch.pt2e import quietly
from harness.engines.torch.runner import Answer

PACKAGE_NAME, FACTS_NAME = "model.pt2", "facts.json"
# Variables that change what is compiled, or for which instructions; where inductor keeps its caches changes nothing.
_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")
# How inductor calls a constant that it made by freezing.
_FOLDED = "_frozen_param"
_INDUCTOR, _CACHES = "TORCHINDUCTOR_", "CACHE"


class Package:
    """A package that is loaded: a function of a batch, with what the package was made for."""

    def __init__(self, path: Path, facts: Mapping[str, Any], device: Device) -> None:
        """Load a package onto a device.

        Args:
            path: the file, which is unpacked and not needed afterwards.
            facts: what `made_for` returned when the package was made, and what its maker added.
            device: the device to load it onto.
        """
        inductor: Any = import_module("torch._inductor")
        self._model = inductor.aoti_load_package(str(path), device_index=-1 if device.is_host else device.index)
        # The model's own call reads the structure of its arguments from a text each time, and there is one argument.
        self._run = self._model.loader.boxed_run
        self.facts = facts
        self.content = path.read_bytes

    def __call__(self, batch: torch.Tensor) -> Answer:
        """Return the answer to a batch that has the shape, format and layout of the example."""
        outputs = self._run([batch])
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def folded(self) -> int:
        """Return the number of constants that the compiler made of parameters, such as weights packed for oneDNN.

        A parameter that is used as it is keeps its name, in a library with frozen parameters too.
        """
        return sum(name.startswith(_FOLDED) for name in self._model.get_constant_fqns())


def made_for(device: Device) -> dict[str, Any]:
    """Return on what a package depends beside the module: torch, processor, threads, GPU and the compiler's variables.

    The library has the instructions of its processor, weights that are packed for it, and the number of threads.
    """
    names = [name for name in os.environ if name.startswith(_INDUCTOR) and _CACHES not in name]
    return {
        "torch": torch.__version__,
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.kind if device.is_host else str(device.describe()["name"]),
        "variables": {name: os.environ[name] for name in sorted([*names, *_VARIABLES]) if name in os.environ},
    }


class Casting(torch.nn.Module):
    """A module that computes under autocast. An export takes the casts in only where they begin inside of it."""

    def __init__(self, module: torch.nn.Module, casting: Callable[[], AbstractContextManager[Any]]) -> None:
        """Take the module, and what returns the autocast context."""
        super().__init__()
        self.module = module
        self.casting = casting

    def forward(self, batch: torch.Tensor) -> Answer:
        """Return the module's answer."""
        with self.casting():
            answer: Answer = self.module(batch)
        return answer


def make_package(module: torch.nn.Module, batch: torch.Tensor, facts: Any, folder: Path) -> None:
    """Export a module for one shape, compile it with frozen parameters, and write the package and its facts.

    Args:
        module: the module on its device; see `Casting`.
        batch: one batch as `submit` will have it.
        facts: what is to be written beside the package, serialisable as JSON.
        folder: where to write.
    """
    inductor: Any = import_module("torch._inductor")
    config: Any = import_module("torch._inductor.config")
    with quietly(), torch.no_grad():
        program = torch.export.export(module, (batch,), strict=False)
        with config.patch(freezing=True):
            inductor.aoti_compile_and_package(program, package_path=str(folder / PACKAGE_NAME))
    (folder / FACTS_NAME).write_text(json.dumps(facts), encoding="utf-8")


def require_made_for(facts: Mapping[str, Any], device: Device) -> None:
    """Check that a saved package runs here.

    Raises:
        OtherModel: it was made by another torch, or for another machine.
    """
    here, there = made_for(device), facts.get("made_for", {})
    differ = [f"{name} {there.get(name)}, not {value}" for name, value in here.items() if there.get(name) != value]
    if differ:
        raise OtherModel(f"the package was made for {'; '.join(differ)}: save it anew")


def _processor() -> str:
    """Return the processor's name and a hash of what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    abilities = told.get("flags", told.get("Features", ""))
    return f"{told.get('model name', platform.machine())} {hashlib.sha256(abilities.encode()).hexdigest()[:12]}"
