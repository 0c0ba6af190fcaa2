"""The record of a training run: its numbers, what proves them, and what its files hold."""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.host.cores import current
from harness.measure.training.order import batches
from harness.measure.training.state import Course, Parts
from harness.measure.training.together import cost_of_sharing
from harness.proof import Contradiction
from harness.proof.contradictions import contradictions
from models.build import Built, state_sha256

# The losses at either end of a run that are averaged: single batches differ by more than training does in a few steps.
LOSS_SPAN = 4


def share_of(parts: Parts, course: Course, began_s: float, ended_s: float) -> dict[str, Any]:
    """Return what one process did, for the record of all of them."""
    return {
        "rank": parts.group.rank,
        "node": platform.node(),
        "pid": os.getpid(),
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "numa_node": current().node,
        "memory": current().memory,
        "images": (course.position - course.began_at) * parts.recipe.batch,
        "began_s": began_s,
        "ended_s": ended_s,
        "evaluation_s": course.evaluation_s,
        "checkpoint_s": course.checkpoint_s,
        "losses": course.losses,
        "parameters_sha256": parameters_sha256(parts.step.module),
    }


def record_of_run(
    parts: Parts, course: Course, built: Built, batch_norm: str, before: str, each: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the record, JSON-serialisable. Every process has to call this.

    Args:
        parts: what the run is made of.
        course: how it went.
        built: the module and its weights as they were before.
        batch_norm: what became of the batch norms.
        before: the digest of the parameters before the first step, of `parameters_sha256`.
        each: what each process did, from `share_of`.

    Raises:
        Contradiction: something other than what the label says ran.
    """
    recipe, group, case = parts.recipe, parts.group, parts.recipe.case
    peak = parts.device.peak_memory()
    weights_sha256 = state_sha256(parts.step.module)
    weights_changed = parameters_sha256(parts.step.module) != before
    momentum = (held for one in parts.step.optimiser.state.values() if (held := one.get("momentum_buffer")) is not None)
    momentum_sha256 = sha256_of(momentum)
    at = max(1, course.position)
    last = parts.step.put(*next(batches(recipe, parts.spec, parts.images, range(at - 1, at), group)))
    forward, backward = parts.step.evidence(last)
    problems = [
        f"{word} pass: {text}"
        for word, evidence in (("forward", forward), ("backward", backward))
        for text in contradictions(case, parts.device, evidence)
    ]
    if len({one["parameters_sha256"] for one in each}) > 1:
        problems.append("the replicas ended with different parameters: their gradients were not averaged")
    if course.had_rate and not weights_changed:
        problems.append(f"label says training, but {course.position - course.began_at} steps changed no weight")
    if problems:
        raise Contradiction(f"{case}: {'; '.join(problems)}")
    window = window_of(each)
    losses = [statistics.fmean(column) for column in zip(*(one["losses"] for one in each), strict=True)]
    found = {
        "measurement": "training",
        "case": str(case),
        **case.flat(),
        "replicas": group.size,
        **window,
        "steps": course.position,
        "epochs": course.position / parts.images.per_epoch,
        "began_at_step": course.began_at,
        "earlier_s": course.earlier_s,
        "global_batch": parts.global_batch,
        "learning_rate": recipe.rate(group.size),
        "batch_norm": batch_norm,
        "losses": losses,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "first_losses_mean": statistics.fmean(losses[:LOSS_SPAN]) if losses else None,
        "last_losses_mean": statistics.fmean(losses[-LOSS_SPAN:]) if losses else None,
        "evaluations": course.evaluations,
        "evaluated_on": parts.images.evaluated_on,
        "stop_threshold": recipe.stop_threshold,
        "is_reached": course.reached_s is not None,
        "time_to_threshold_s": None if course.reached_s is None else course.earlier_s + course.reached_s,
        "images_in_data": len(parts.images.images),
        "images_dropped_per_epoch": parts.images.dropped,
        "images_sha256": parts.images.sha256,
        "weights_sha256": weights_sha256,
        "weights_changed": weights_changed,
        "momentum_sha256": momentum_sha256,
        "peak_memory_mib": None if peak is None else peak / 2**20,
        "each": [{key: value for key, value in one.items() if key != "losses"} for one in each],
        "cores": current().record(),
        "evidence": {
            **forward.as_dict(),
            "backward": {"dtype_share_pct": backward.dtype_share_pct, "matrix_ops": backward.matrix_ops},
        },
        "identity": {"weights": built.weights, "weights_sha256": built.weights_sha256},
        "recipe": recipe.as_dict(),
    }
    return found | cost_of_sharing(parts.step, last, group, parts.global_batch)


def window_of(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the images of all processes over the window that they have in common, less evaluations and checkpoints.

    A clock is one host's, so that the window is that of the host on which it is longest.
    """
    hosts: dict[str, list[dict[str, Any]]] = {}
    for one in each:
        hosts.setdefault(one["node"], []).append(one)
    wall_s = max(
        max(one["ended_s"] for one in found) - min(one["began_s"] for one in found) for found in hosts.values()
    )
    apart_s = max(one["evaluation_s"] + one["checkpoint_s"] for one in each)
    images = sum(one["images"] for one in each)
    return {
        "images": images,
        "wall_s": wall_s,
        "evaluation_s": max(one["evaluation_s"] for one in each),
        "checkpoint_s": max(one["checkpoint_s"] for one in each),
        "images_per_second": images / (wall_s - apart_s) if images else None,
    }


def parameters_sha256(module: nn.Module) -> str:
    """Return a digest of the parameters alone: buffers, such as running statistics, change in each forward pass."""
    return sha256_of(module.parameters())


def sha256_of(tensors: Iterable[Tensor]) -> str:
    """Return a digest of the bytes of tensors, in their order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def curve_of(course: Course) -> str:
    """Return a CSV with a line for each step: its number, its loss, and the top-1 where it was evaluated."""
    right = {one["step"]: one["top1_pct"] for one in course.evaluations}
    lines = [f"{number},{loss:.6g},{right.get(number, '')}" for number, loss in enumerate(course.losses, start=1)]
    return "\n".join(["step,loss,top1_pct", *lines]) + "\n"
