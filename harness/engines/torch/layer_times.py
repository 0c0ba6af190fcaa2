"""Where the time of a profiled step went: each operator on the host, or each kernel on a device, by its own time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from harness.engines.evidence import LayerTime
from harness.engines.torch.kernels import is_matrix_kernel
from harness.engines.torch.profiler import Event, dtype_by_launch, innermost_matrix_ops

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
# What dynamo calls the region that it compiled. Its own time is that of the code which inductor wrote.
_REGION = "Torch-Compiled Region"
_GENERATED = "code that inductor wrote, and its calls"


def layer_times(events: list[Event]) -> tuple[LayerTime, ...]:
    """Return what took the time of a step, the costliest first.

    On the host an operator's own time counts, without that of the operators that it calls; a convolution or a matrix
    product counts whole. If the trace has device kernels, their time counts instead. Equal operators of equal shapes
    are one entry.
    """
    on_device = [event for event in events if event.get("cat") in _ON_DEVICE]
    return _of_kernels(on_device, events) if on_device else _of_operators(events)


def busy_us(events: list[Event]) -> float:
    """Return how long at least one operator ran, or where the trace has any, one kernel or copy of a device."""
    on_device = [event for event in events if event.get("cat") in _ON_DEVICE]
    timed = on_device or [event for event in events if event.get("cat") == "cpu_op"]
    total, end = 0.0, float("-inf")
    for start, stop in sorted((event["ts"], event["ts"] + event["dur"]) for event in timed):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _of_kernels(kernels: list[Event], events: list[Event]) -> tuple[LayerTime, ...]:
    launched = dtype_by_launch(events, innermost_matrix_ops(events))
    return _joined(
        LayerTime(
            kernel["name"],
            kernel["name"],
            kernel["dur"],
            kernel["cat"] == "kernel"
            and (kernel.get("args", {}).get("External id") in launched or is_matrix_kernel(kernel["name"])),
        )
        for kernel in kernels
    )


def _of_operators(events: list[Event]) -> tuple[LayerTime, ...]:
    host = sorted(
        (event for event in events if event.get("cat") == "cpu_op"), key=lambda e: (e["tid"], e["ts"], -e["dur"])
    )
    whole = {id(event) for event in innermost_matrix_ops(events)}
    own_us = {id(event): float(event["dur"]) for event in host}
    open_ops: list[Event] = []
    found: list[Event] = []
    for event in host:
        while open_ops and (
            open_ops[-1]["tid"] != event["tid"] or event["ts"] >= open_ops[-1]["ts"] + open_ops[-1]["dur"]
        ):
            open_ops.pop()
        if open_ops and id(open_ops[-1]) in whole:
            continue  # within a convolution or a matrix product
        if open_ops:
            own_us[id(open_ops[-1])] -= event["dur"]
        open_ops.append(event)
        found.append(event)
    return _joined(
        LayerTime(_name(event), _operator(event), max(0.0, own_us[id(event)]), id(event) in whole) for event in found
    )


def _operator(event: Event) -> str:
    return _GENERATED if event["name"].startswith(_REGION) else str(event["name"])


def _name(event: Event) -> str:
    shapes = [shape for shape in event.get("args", {}).get("Input Dims", [])[:2] if shape]
    described = " x ".join(str(shape).replace(" ", "") for shape in shapes)
    return f"{_operator(event)} {described}".strip()


def _joined(entries: Iterable[LayerTime]) -> tuple[LayerTime, ...]:
    """Return one entry for all entries of one name, the costliest first."""
    named: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    for entry in entries:
        named[entry.name, entry.operator, entry.is_matrix_work].append(entry.time_us)
    joined = [
        LayerTime(name, operator, sum(times), is_matrix_work, len(times))
        for (name, operator, is_matrix_work), times in named.items()
    ]
    return tuple(sorted(joined, key=lambda one: -one.time_us))
