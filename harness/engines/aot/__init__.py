"""The engine `aot`: AOTInductor, which compiles an exported module into a library with frozen parameters.

The library is kept in the cache as a package. A later process loads it and compiles nothing. For int8, the module is
first quantised by PT2E.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, key_of, sources_of
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.aot.package import (
    FACTS_NAME,
    PACKAGE_NAME,
    Casting,
    Package,
    made_for,
    make_package,
    require_made_for,
)
from harness.engines.aot.step import StepReader
from harness.engines.torch.layout import Layout
from harness.engines.torch.pt2e import (
    QUANTISER_OF,
    cannot_quantise,
    float_layers,
    import_quantiser,
    quantised_program,
    quietly,
)
from harness.engines.torch.runner import (
    TorchRunner,
    autocast,
    lay_out,
    not_a_torch_device,
    place,
    put,
)
from harness.engines.torch.scripts import LAYOUT_NAME, saved_layout


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: the device's precisions; int8 where inductor has a quantiser for it."""
    if (reason := not_a_torch_device("aot", device)) or not PRECISIONS[precision].calibrated:
        return reason
    return cannot_quantise("aot", device)


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    with quietly():
        import_module("torch._inductor.package")
        import_module("torch._inductor.compile_fx")
    if PRECISIONS[precision].calibrated:
        import_quantiser()


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`. The package is made where the cache has none, and always loaded from its file."""
    placed = place(module, case, device)
    layout = lay_out(placed, example, case, device)
    artefact = _packaged(placed, example, case, device, layout, artefacts)
    facts = json.loads((artefact.folder / FACTS_NAME).read_text(encoding="utf-8"))
    return _runner(Package(artefact.folder / PACKAGE_NAME, facts, device), placed, case, device, layout, artefact.state)


def save(runner: TorchRunner) -> dict[str, bytes]:
    """See `Saving.save`. The files are the package, what it was made for, and its layout."""
    package = runner.forward
    assert isinstance(package, Package)
    return {
        PACKAGE_NAME: package.content(),
        FACTS_NAME: json.dumps(package.facts).encode(),
        LAYOUT_NAME: runner.layout.name.encode(),
    }


def load(files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> TorchRunner:
    """See `Saving.load`.

    Raises:
        OtherModel: the package was made by another torch, or for another machine.
    """
    facts = json.loads(files[FACTS_NAME])
    require_made_for(facts, device)
    layout = saved_layout(files)
    placed = place(module, case, device).to(memory_format=layout.memory_format)
    folder = tempfile.TemporaryDirectory(prefix="visionmark-aot-")
    path = Path(folder.name) / PACKAGE_NAME
    path.write_bytes(files[PACKAGE_NAME])
    return _runner(Package(path, facts, device), placed, case, device, layout, "loaded", folder.cleanup)


def _packaged(
    placed: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, layout: Layout, artefacts: Artefacts
) -> Artefact:
    """Return the package of a placed module from the cache, made where the cache has none."""
    to_device = partial(put, case=case, device=device, layout=layout)
    batch = to_device(example)
    is_calibrated = PRECISIONS[case.precision].calibrated
    calibration = artefacts.calibration().record() if is_calibrated else None
    machine = made_for(device)

    def make(folder: Path) -> None:
        program = placed
        if PRECISIONS[case.precision].autocast:
            program = Casting(placed, partial(autocast, case, device))
        facts: dict[str, Any] = {"made_for": machine, "calibration": calibration, "float_layers": []}
        if is_calibrated:
            program, _ = quantised_program(
                placed, batch, case.model, QUANTISER_OF[device.kind], layout.name, to_device, artefacts
            )
            facts["float_layers"] = float_layers(program)
        artefacts.report("compiling ahead of time")
        make_package(program, batch, facts, folder)
        gc.collect()

    key = key_of(
        "aot package",
        placed,
        libraries=("torchao",) if is_calibrated else (),
        sources=sources_of(__file__),
        model=case.model,
        precision=case.precision,
        layout=layout.name,
        shape=list(batch.shape),
        dtype=str(batch.dtype),
        machine=machine,
        calibration=calibration,
    )
    return artefacts.cache.obtain(key, make)


def _runner(
    package: Package,
    placed: torch.nn.Module,
    case: Case,
    device: Device,
    layout: Layout,
    state: str,
    on_close: Callable[[], None] = lambda: None,
) -> TorchRunner:
    reader = StepReader(package, device, state)
    return TorchRunner(
        package,
        placed,
        case,
        device,
        prove=reader.prove,
        autocasts=False,
        on_close=on_close,
        work=reader.work,
        layout=layout,
    )
