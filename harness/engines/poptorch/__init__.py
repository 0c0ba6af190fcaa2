"""The engine `poptorch`: the module compiled by Graphcore's PopTorch into one program for an IPU.

The library is part of Graphcore's SDK and wants torch 2.0.1, so that it has an environment of its own. Nothing here is
newer than that.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefacts, key_of, sources_of
from harness.cases import HALF_PARTIALS, PRECISIONS, Case
from harness.cases.setting import device_iterations, io_tiles, pipeline_splits
from harness.devices import Device
from harness.engines.poptorch.options import described, program_options
from harness.engines.poptorch.program import (
    GRAPH_NAME,
    IpuError,
    IpuOutOfMemory,
    Overlapped,
    PopTorchRunner,
    Program,
    require_graph,
)

HAS_OWN_ALLOCATOR = True
# A submit copies its input from the host: nothing lies on an IPU before the clock starts.
COPIES_IN_SUBMIT = True
WHY_NOT_SAVED = "its program is kept in --cache-dir"
_MOST_IPUS = 64
# The file that Poplar writes into the folder of a report, or into one below it.
_PROFILE = "profile.pop"


def absent() -> str | None:
    """Return None, or the reason why PopTorch is not installed, with how to get it."""
    if find_spec("poptorch") is None:
        return (
            "poptorch comes with Graphcore's Poplar SDK and needs torch 2.0.1, an environment of its own: "
            "make setup-poptorch WHEEL=…, then .venv-poptorch/bin/python -m pytest --device ipu"
        )
    return None


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: IPUs only, in the precisions of the device."""
    if device.kind != "ipu":
        return "poptorch compiles for IPUs: use --device ipu"
    return absent()


def supports_settings(case: Case) -> str | None:
    """Return None, or the reason why the settings of a case cannot be had together."""
    if HALF_PARTIALS in case.settings and case.precision != "fp16":
        return f"half partial sums are of fp16, and not of {case.precision}: drop --half-partial"
    stages, iterations = len(pipeline_splits(case.settings)) + 1, device_iterations(case.settings)
    if stages > 1 and io_tiles(case.settings):
        return "tiles for input and output overlap within one stage: drop --num-io-tiles or --pipeline-splits"
    if stages > iterations:
        return f"a pipeline of {stages} stages needs as many batches in a submit: add --device-iterations {stages}"
    ipus = stages * case.replicas
    if ipus & (ipus - 1) or ipus > _MOST_IPUS:
        return (
            f"{stages} stages in {case.replicas} replicas are {ipus} IPUs, and a program has a power of two of them, "
            f"at most {_MOST_IPUS}: change --replicas or --pipeline-splits"
        )
    return None


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    import_module("poptorch")


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> PopTorchRunner:
    """See `Engine.build`.

    The program is compiled into the cache, with the graph that was compiled beside it, and then loaded from there. Only
    the first compilation can tell its graph.
    """
    library: Any = import_module("poptorch")
    dtype = getattr(torch, PRECISIONS[case.precision].weights)
    # parameters are uploaded as they lie in memory, so that channels-last weights would be uploaded permuted
    placed = module.to(dtype=dtype).to(memory_format=torch.contiguous_format).requires_grad_(False)
    layers = _split(library, placed, case)
    program = Overlapped(library, placed) if io_tiles(case.settings) else placed
    batch = example.to(dtype if example.is_floating_point() else example.dtype).contiguous()
    ipu = device.index if getattr(device, "is_chosen", False) else None

    def compiled(folder: Path, report: Path | None = None) -> Program:
        return Program(library, program, program_options(library, case, ipu, folder, report), batch)

    def make(folder: Path) -> None:
        artefacts.report("compiling for the IPU")
        one = compiled(folder)
        try:
            (folder / GRAPH_NAME).write_text(require_graph(one.graph()), encoding="utf-8")
        finally:
            one.close()

    key = key_of(
        "poptorch program",
        placed,
        libraries=(),
        sources=sources_of(__file__),
        model=case.model,
        precision=case.precision,
        options=described(case),
        shape=list(batch.shape),
        dtype=str(batch.dtype),
        poptorch=library.__version__,
        hardware=library.ipuHardwareVersion(),
    )
    reports = (artefacts.report_dir or artefacts.cache.folder / "popvision") / re.sub(r"[^\w.-]", "_", str(case))
    try:
        if artefacts.report_dir is not None:
            _report(compiled, reports, batch)
        artefact = artefacts.cache.obtain(key, make)
        loaded = compiled(artefact.folder)
    except IpuOutOfMemory as error:
        artefacts.report("compiling once more for the report of the tiles' memory")
        told = _tile_memory(compiled, reports)
        _rejoin(library, placed, layers)
        raise IpuOutOfMemory(f"{error}; {told}") from None
    except BaseException:
        _rejoin(library, placed, layers)
        raise
    graph = (artefact.folder / GRAPH_NAME).read_text(encoding="utf-8")
    return PopTorchRunner(
        loaded, placed, case, device, graph, artefact.state, on_close=lambda: _rejoin(library, placed, layers)
    )


def _report(compiled: Callable[[Path, Path], Program], folder: Path, batch: torch.Tensor) -> None:
    """Write the SDK's report of a program, which slows it down: it is a program and a call that nothing measures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:  # a program from a cache has no report
        one = compiled(Path(scratch), folder)
    try:
        one.run(batch)
    finally:
        one.close()


def _tile_memory(compiled: Callable[[Path, Path], Program], folder: Path) -> str:
    """Compile a program that does not fit once more, with the SDK's report, and tell where that report is.

    PopTorch's own error does not hold the path: PopTorch only logs it.
    """
    for earlier in folder.rglob(_PROFILE):
        earlier.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    # it may not fit now either; the report is written before that is told
    with tempfile.TemporaryDirectory() as scratch, suppress(IpuError):
        compiled(Path(scratch), folder).close()
    written = sorted(folder.rglob(_PROFILE))
    if written:
        return f"{written[0]} has the memory of each tile, for the PopVision Graph Analyser"
    return f"the SDK wrote no report of the tiles' memory into {folder}"


def _split(library: Any, module: torch.nn.Module, case: Case) -> tuple[str, ...]:
    """Let a stage begin at each layer of the setting, on an IPU of its own, and return the layers.

    Raises:
        ValueError: there is no such layer, which PopTorch would not tell.
    """
    layers = pipeline_splits(case.settings)
    named = dict(module.named_modules())
    inner = "model." if layers and layers[0] not in named else ""
    for stage, layer in enumerate(layers, start=1):
        if inner + layer not in named:
            raise ValueError(f"{case.model} has no layer {layer!r} to split its pipeline at")
        library.BeginBlock(named[inner + layer], ipu_id=stage)
    return layers


def _rejoin(library: Any, module: torch.nn.Module, layers: tuple[str, ...]) -> None:
    """Take the stages off the module again, on which PopTorch leaves hooks."""
    if layers:
        library.removeBlocks(module)
