"""What the compiled graph and the counters of an IPU say against a label."""

from __future__ import annotations

from harness.cases import HALF_PARTIALS, Case
from harness.cases.setting import device_iterations, pipeline_splits
from harness.engines.poptorch.graph import CompiledGraph

_COUNTERS = ("input", "input_complete", "output", "output_complete")


def graph_denials(case: Case, graph: CompiledGraph) -> list[str]:
    """Return in what the compiled graph contradicts the settings of a case."""
    found = []
    wanted = "half" if HALF_PARTIALS in case.settings else "float"
    others = {name: count for name, count in graph.partials.items() if name != wanted}
    if others:
        told = ", ".join(f"{count} in {name}" for name, count in others.items())
        found.append(f"label says partial sums in {wanted}, but the compiled graph has {told}")
    stages = len(pipeline_splits(case.settings)) + 1
    if stages > 1 and len(graph.stages) != stages:
        found.append(f"label says {stages} pipeline stages, but the compiled graph has {len(graph.stages)}")
    return found


def counter_denials(case: Case, before: dict[str, list[list[float]]], after: dict[str, list[list[float]]]) -> list[str]:
    """Return in what the counters of two calls contradict that the second one ran on an IPU as the label says.

    Each step of a replica has a counter, so that their number tells the iterations and the replicas. Programs with
    synthetic data have none.
    """
    empty = [name for name in _COUNTERS if not any(after.get(name, []))]
    if empty:
        return [
            f"the IPU counted no {empty[0]}: nothing was copied, so that nothing ran on it or its data was synthetic"
        ]
    found = []
    steps, wanted = len(after["input"][0]), device_iterations(case.settings) * case.replicas
    if steps != wanted:
        found.append(
            f"label says {device_iterations(case.settings)} iterations in {case.replicas} replicas, but the IPU "
            f"counted {steps} steps and not {wanted}"
        )
    if any(before.get("input", [])) and min(after["input"][0]) <= max(before["input"][0]):
        found.append("the IPU's counters are those of an earlier call: this one did not run")
    return found


def iteration_ms(counters: dict[str, list[list[float]]]) -> list[float]:
    """Return the milliseconds of each step of the last call, from when it asks for input until its answer is out."""
    if not all(any(counters.get(name, [])) for name in ("input", "output_complete")):
        return []
    pairs = zip(counters["input"][0], counters["output_complete"][0], strict=False)
    return [round(1e3 * (end - begin), 6) for begin, end in pairs]
