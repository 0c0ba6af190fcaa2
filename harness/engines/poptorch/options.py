"""The options of a PopTorch program: the only place that sets any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.cases import HALF_PARTIALS, Case
from harness.cases.setting import device_iterations, io_tiles, pipeline_splits

# Batches that are fetched ahead where input and output have tiles of their own, as in Graphcore's examples.
_PREFETCHED = 3


def described(case: Case) -> dict[str, Any]:
    """Return what the options of a case are, for the record and the key of the kept program."""
    return {
        "device_iterations": device_iterations(case.settings),
        "replication_factor": case.replicas,
        "partials": "half" if HALF_PARTIALS in case.settings else "float",
        "io_tiles": io_tiles(case.settings),
        "splits": list(pipeline_splits(case.settings)),
        "output_mode": "All",
        "stochastic_rounding": False,
    }


def program_options(library: Any, case: Case, ipu: int | None, folder: Path, report: Path | None) -> Any:
    """Return PopTorch's options for a case.

    The output mode is always All, because a number whose answers are dropped cannot be proven. Distribution is switched
    off, because under mpirun a program would otherwise become a part of a distributed one by itself.

    Args:
        library: the module `poptorch`.
        case: the label.
        ipu: the identifier of the IPU or group, None for any free one.
        folder: where the compiled program is kept.
        report: the folder for PopVision's report, None for no report.
    """
    options = library.Options()
    options.deviceIterations(device_iterations(case.settings))
    options.replicationFactor(case.replicas)
    options.outputMode(library.OutputMode.All)
    options.Precision.setPartialsType(torch.half if HALF_PARTIALS in case.settings else torch.float)
    options.Precision.enableStochasticRounding(False)
    options.Distributed.disable()
    options.showCompilationProgressBar(False)
    options.enableExecutableCaching(str(folder))
    if ipu is not None:
        options.useIpuId(ipu)
    if tiles := io_tiles(case.settings):
        options.TensorLocations.numIOTiles(tiles)
        options.setExecutionStrategy(library.ShardedExecution())
        options._Popart.set("defaultPrefetchBufferingDepth", _PREFETCHED)
    if report is not None:
        options.enableProfiling(str(report))
    return options
