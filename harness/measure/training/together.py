"""What training together is worth: whether gradients are averaged rightly, and what the averaging costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from harness.devices import forked_generators, generator_state, set_generator_state
from harness.engines.torch.training import StepBatch, TorchTrainingStep
from harness.measure.training.group import Group
from harness.proof import Contradiction

# How often each kind of step is timed after a run, the best of which counts; more often where steps are short.
LEAST_STEPS, MOST_STEPS, ENOUGH_S = 3, 20, 15.0
# How far averaged gradients may be from the mean of the replicas' own, as a share of the latter: the order of a sum.
MOST_DIFFERENCE = 1e-3
# Seconds of wall time and of CPU time.
StepTimes = tuple[float, float]


@contextmanager
def _as_before(step: TorchTrainingStep) -> Iterator[None]:
    """Put buffers and torch's generators back on leaving, and drop the gradients."""
    buffers = [buffer.detach().clone() for buffer in step.module.buffers()]
    with forked_generators(step.device):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, was in zip(step.module.buffers(), buffers, strict=True):
                    buffer.copy_(was)
            step.clear()


@contextmanager
def _apart(step: TorchTrainingStep) -> Iterator[None]:
    """Average no gradients."""
    averaging = step.called
    assert isinstance(averaging, DistributedDataParallel)
    with averaging.no_sync():
        yield


def _gradient(step: TorchTrainingStep, batch: StepBatch) -> Tensor:
    step.clear()
    step.backward(step.forward(batch))
    found = (parameter.grad for parameter in step.module.parameters())
    return torch.cat([gradient.detach().float().flatten() for gradient in found if gradient is not None])


def warm_up(step: TorchTrainingStep, batch: StepBatch) -> float:
    """Go through both passes once, in which an engine may compile them, and return the seconds that it took.

    No parameter, buffer or random state changes.
    """
    began = perf_counter()
    with _as_before(step):
        step.backward(step.forward(batch))
        step.synchronize()
    return perf_counter() - began


def agreement(step: TorchTrainingStep, batch: StepBatch, group: Group) -> float | None:
    """Return how far the averaged gradients of a batch are from the mean of the replicas' own, as a share of that mean.

    None for a single replica. No parameter, buffer or random state changes.

    Raises:
        Contradiction: they are so far off that they are no mean.
    """
    if group.size == 1:
        return None
    with _as_before(step):
        state, device_state = torch.get_rng_state(), generator_state(step.device)
        with _apart(step):
            mean = _gradient(step, batch)
        torch.distributed.all_reduce(mean)
        mean /= group.size
        torch.set_rng_state(state)
        set_generator_state(step.device, device_state)
        averaged = _gradient(step, batch)
        difference = float((averaged - mean).norm() / mean.norm().clamp_min(1e-30))
    if not difference <= MOST_DIFFERENCE:
        raise Contradiction(
            f"the gradients of {group.size} replicas are {100 * difference:.2g}% from the mean of what each has: they "
            f"are not averaged"
        )
    return difference


def cost_of_sharing(step: TorchTrainingStep, batch: StepBatch, group: Group, images: int) -> dict[str, Any]:
    """Return what averaging costs: its share of a step, and the rate over that of one replica which trains alone.

    The steps follow the run and change the weights, which are saved by then. The one replica has the threads and cores
    that it had in the run, and the others wait.

    Args:
        step: the step of this process.
        batch: a batch on the device.
        group: the processes that train together.
        images: the images of one step of all replicas.
    """
    if group.size == 1:
        return {}
    together: list[StepTimes] = []
    apart: list[StepTimes] = []
    alone: list[StepTimes] = []
    began = perf_counter()
    # in turns, because the speed of a shared machine drifts; the first process decides for all when it is enough
    while group.share(_wants_more(len(together), perf_counter() - began)):
        group.barrier()
        together.append(_times(step, batch))
        with _apart(step):
            group.barrier()
            apart.append(_times(step, batch))
            group.barrier()
            if group.is_first:
                alone.append(_times(step, batch))
    group.barrier()
    best = [tuple(map(min, zip(*times, strict=True))) if times else (0.0, 0.0) for times in (together, apart, alone)]
    (together_s, together_cpu_s), (apart_s, _), (alone_s, alone_cpu_s) = best
    found = group.gather((together_s, apart_s, alone_s, alone_cpu_s))
    slowest = [max(column) for column in zip(*found, strict=True)]
    cpu_s = sum(group.gather(together_cpu_s))
    one_per_second = images / group.size / slowest[2]
    all_per_second = images / slowest[0]
    return {
        "step_s": slowest[0],
        "communication_pct": max(0.0, 100 * (1 - slowest[1] / slowest[0])),
        "one_replica_images_per_second": one_per_second,
        "on_device_images_per_second": all_per_second,
        "scaling": all_per_second / one_per_second,
        "efficiency_pct": 100 * all_per_second / one_per_second / group.size,
        "cpu_efficiency_pct": 100 * group.size * slowest[3] / cpu_s,
    }


def _wants_more(steps: int, elapsed_s: float) -> bool:
    return steps < LEAST_STEPS or (steps < MOST_STEPS and elapsed_s < ENOUGH_S)


def _times(step: TorchTrainingStep, batch: StepBatch) -> StepTimes:
    """Return the wall time and the CPU time of one step of this process, in seconds."""
    began, cpu_began = perf_counter(), process_time()
    step.submit(batch)
    step.synchronize()
    return perf_counter() - began, process_time() - cpu_began
