"""torch.compile with inductor: parameters frozen, one static shape, CUDA graphs where the device has them."""

from __future__ import annotations

import gc
import logging
from typing import Any

import torch

from harness.case import Case
from harness.devices import Device
from harness.engines.eager import executed_engine
from harness.engines.torch_runner import Proof, TorchRunner, place
from harness.profile import Event, ran_inductor
from harness.supplies import Supplies


def supports(device: Device, precision: str) -> str | None:
    """Whatever the device can compute in."""
    return None


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, supplies: Supplies
) -> TorchRunner:
    """See `Engine.build`. Compiled by its first call here, so that no timed call compiles."""
    forget_graphs()
    # dynamo warns on stderr that no CUDA runtime was found, on machines where none is wanted
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    placed = place(module, case, device)
    options: dict[str, Any] = {"freezing": True}
    if device.cuda_graphs:
        options["triton.cudagraphs"] = True
    compiled = torch.compile(placed, dynamic=False, fullgraph=False, options=options)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        if device.cuda_graphs:  # the output of the step before may be overwritten now
            torch.compiler.cudagraph_mark_step_begin()
        logits: torch.Tensor = compiled(batch)
        return logits

    runner = TorchRunner(
        forward,
        placed,
        case,
        device,
        prove=lambda events: _prove(placed, events, device),
        compilations=compilations,
        on_close=forget_graphs,
    )
    batch = runner.put(example)
    for _ in range(3 if device.cuda_graphs else 1):  # a CUDA graph is warmed up, then recorded, then replayed
        runner.submit(batch)
    runner.synchronize()
    return runner


def _prove(module: torch.nn.Module, events: list[Event], device: Device) -> Proof:
    counters = torch._dynamo.utils.counters
    engine = "compile" if ran_inductor(events) else executed_engine(module, events)
    if device.cuda_graphs and counters["inductor"]["cudagraph_skips"]:  # inductor says so in a log line only
        engine += " without CUDA graphs"
    return Proof(
        engine,
        graphs=counters["stats"]["unique_graphs"],
        graph_breaks=sum(counters["graph_break"].values()),
        # whether compile_s is the time of compiling or of loading what an earlier run compiled
        notes={"inductor_cache": "hit" if counters["inductor"]["fxgraph_cache_hit"] else "miss"},
    )


def compilations() -> int:
    """Frames that dynamo has compiled, and CUDA graphs that inductor has recorded, since `forget_graphs`."""
    counters = torch._dynamo.utils.counters
    return int(counters["frames"]["total"] + counters["inductor"]["cudagraph_recorded_non_static_inputs"])


def forget_graphs() -> None:
    """Drop every compiled graph and its counters: no state passes from one case to the next."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    gc.collect()
