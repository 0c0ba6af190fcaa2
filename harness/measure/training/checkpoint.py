"""Checkpoints of a training run: written whole or not at all, and checked before a run goes on from one."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.devices import Device, generator_state, set_generator_state
from harness.engines.torch.layout import CHANNELS_LAST, CONTIGUOUS, Layout
from harness.files import whole_file
from harness.measure.training.recipe import Recipe, TrainingError

FORMAT = "visionmark training checkpoint 1"
NAME, BEFORE = "checkpoint.pt", "checkpoint.pt.before"


def random_state(device: Device) -> dict[str, Any]:
    """Return the state of every generator that a step on a device may draw from, as tensors and plain numbers."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "device": generator_state(device),
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any], device: Device) -> None:
    """Put every generator into a state of `random_state`; earlier checkpoints have none of an accelerator."""
    kind, keys, position, has_gauss, gauss = state["numpy"]
    torch.set_rng_state(state["torch"])
    set_generator_state(device, state.get("device"))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, numbers, following = state["python"]
    random.setstate((version, tuple(numbers), following))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; the one of before stays where it cannot be written.

    Raises:
        TrainingError: it cannot be written, such as on a full disk.
    """
    held = io.BytesIO()
    torch.save({"format": FORMAT, **state}, held)
    try:
        with whole_file(path) as part:
            part.write_bytes(held.getbuffer())
    except OSError as error:
        kept = f"; {path.name} of before is kept" if path.exists() else ""
        raise TrainingError(f"{path} cannot be written ({error.strerror}){kept}: make room, and --resume") from None


def set_aside(folder: Path) -> bool:
    """Rename the checkpoint of an earlier run, so that nothing takes it for this run's; return whether there is one."""
    if is_there := (folder / NAME).exists():
        (folder / NAME).replace(folder / BEFORE)
    return is_there


def kept_layout(path: Path) -> Layout | None:
    """Return the layout in which the run of a checkpoint trains, or None where the file does not tell it."""
    try:
        told = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["layout"]
        return Layout(told["name"], told["why"]) if told["name"] in (CHANNELS_LAST, CONTIGUOUS) else None
    except Exception:  # whatever is wrong with the file, `read_checkpoint` says it
        return None


def read_checkpoint(path: Path, recipe: Recipe, images_sha256: str, replicas: int) -> dict[str, Any]:
    """Return a checkpoint that this run can go on from.

    Raises:
        TrainingError: there is none, it is damaged, it is no checkpoint of a training run, or it is of another run.
    """
    if not path.is_file():
        raise TrainingError(f"--resume: there is no checkpoint {path}; drop --resume to begin anew")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, EOFError, RuntimeError, …: Exception is all that they share
        text = str(error).strip().partition("\n")[0]
        raise TrainingError(f"{path} is damaged, or no checkpoint ({type(error).__name__}: {text})") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise TrainingError(f"{path} is no checkpoint of `visionmark train`: give its weights as --weights FILE")
    if found["replicas"] != replicas:
        raise TrainingError(
            f"{path} is of {found['replicas']} replicas, and this run has {replicas}: give --replicas "
            f"{found['replicas']}, or begin anew from its weights"
        )
    if found["images_sha256"] != images_sha256:
        raise TrainingError(f"{path} was trained on other images than those of {recipe.data}")
    ours, theirs = recipe.fixed(), found["recipe"]
    other = [f"{name} {theirs.get(name)!r}, now {ours[name]!r}" for name in ours if theirs.get(name) != ours[name]]
    if other:
        raise TrainingError(f"{path} is of another run: {'; '.join(other)}")
    return found
