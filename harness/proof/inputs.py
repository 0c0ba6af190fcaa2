"""What goes into the runner of a case: images as numbers that the host normalised, or as bytes.

A case with the setting `u8` takes bytes, and its module normalises them. Everything else about it, such as the
reference that its answers are compared with, is that of the same case without the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from harness.artefacts import Artefacts, Calibration
from harness.cases import U8, WHOLE, Case
from harness.cases.setting import option_of
from models.catalog import ModelSpec
from models.detectors.whole import whole_of
from models.normalised import as_bytes, normalised_inside
from models.tasks import Pixels, task_of


def takes_bytes(case: Case) -> bool:
    """Return whether the runner of a case takes uint8 images."""
    return U8 in case.settings


def input_images(spec: ModelSpec, count: int) -> torch.Tensor:
    """Return generated images, fp32 [count, 3, h, w], as the model's weights expect them."""
    return task_of(spec).generated(spec, count)


def case_images(case: Case, spec: ModelSpec, count: int) -> torch.Tensor:
    """Return the same generated images as the runner of the case takes them: fp32, or uint8, [count, 3, h, w]."""
    images = input_images(spec, count)
    return as_bytes(images, spec.input) if takes_bytes(case) else images


def parts_of(case: Case) -> int:
    """Return how many batches one submit of a case takes: its iterations times the replicas that share it."""
    return case.images // case.batch


def image_places(case: Case, pool: int, turn: int) -> list[int]:
    """Return which image of a pool is at each place of the submit of that turn.

    Each batch of a submit has the images of the pool in another rotation, so that answers in the place of another
    iteration's or replica's can be told.
    """
    return [(turn + part + place) % pool for part in range(parts_of(case)) for place in range(case.batch)]


def case_batches(case: Case, spec: ModelSpec, pool: int, least: int) -> list[torch.Tensor]:
    """Return different inputs of `submit`, [case.images, 3, h, w], as the runner of the case takes them.

    Args:
        case: the label.
        spec: the catalogue row of the model.
        pool: of so many images the inputs are made where a submit takes several batches; else they have at least so
            many images together.
        least: the least number of inputs.
    """
    if parts_of(case) == 1:
        images = case_images(case, spec, max(pool, case.images * least))
        return [chunk for chunk in images.split(case.images) if len(chunk) == case.images]
    images = case_images(case, spec, pool)
    return [images[image_places(case, pool, turn)] for turn in range(least)]


def case_pixels(case: Case, spec: ModelSpec) -> Pixels:
    """Return the transform from a decoded image to what the runner of the case takes, fp32 or uint8 [3, h, w]."""
    task = task_of(spec)
    if not takes_bytes(case):
        return task.transform(spec)
    own: Callable[[ModelSpec], Pixels] = task.byte_transform  # type: ignore[attr-defined]  # see `cannot_take_bytes`
    return own(spec)


def cannot_be_whole(case: Case, spec: ModelSpec) -> str | None:
    """Return None, or the reason why a model that is to run whole cannot."""
    if WHOLE not in case.settings:
        return None
    if spec.task != "detect" or spec.source != "torchvision":
        return f"{spec.name} is no detector of torchvision, which alone are run whole: drop {option_of(WHOLE)}"
    if spec.input.crop_mode == "pad" and case.engine != "eager":
        return (
            f"{spec.name} clips boxes to the size of each image within its padded input, and a graph would have that "
            f"of one image as a constant: use --engine eager"
        )
    return None


def cannot_take_bytes(case: Case, spec: ModelSpec) -> str | None:
    """Return None, or the reason why a case that is to take bytes cannot.

    A task whose images can go in as bytes has a function `byte_transform`: its transform without normalisation.
    """
    if not takes_bytes(case) or hasattr(task_of(spec), "byte_transform"):
        return None
    return f"bytes in are not written for models that {spec.task} yet: drop --eight-bit-io"


def case_module(case: Case, spec: ModelSpec, module: torch.nn.Module) -> torch.nn.Module:
    """Return the module that the engine of the case builds: the given one, or one around it.

    The one around it takes bytes, or makes the objects of a detector.
    """
    if WHOLE in case.settings:
        module = whole_of(spec.arch, module, spec.input.size, is_padded=spec.input.crop_mode == "pad")
    return normalised_inside(module, spec.input) if takes_bytes(case) else module


def case_artefacts(case: Case, spec: ModelSpec, artefacts: Artefacts) -> Artefacts:
    """Return the artefacts with calibration images as the module of the case takes them."""
    if not takes_bytes(case):
        return artefacts

    def calibration() -> Calibration:
        given = artefacts.calibration()
        return replace(given, load=lambda: as_bytes(given.load(), spec.input))

    return replace(artefacts, calibration=calibration)


def nbytes_of(batch: Any) -> int | None:
    """Return the bytes of a batch that an engine has put where `submit` reads it; None if its library does not tell.

    A tensor of torch and an array have `nbytes`, a tensor of OpenVINO has `byte_size`, and a value of ONNX Runtime
    has `tensor_size_in_bytes`.
    """
    for name in ("nbytes", "byte_size", "tensor_size_in_bytes"):
        found = getattr(batch, name, None)
        if found is not None:
            return int(found() if callable(found) else found)
    return None


def input_contradictions(case: Case, spec: ModelSpec, batch: Any) -> list[str]:
    """Return in which way a batch that was put for the runner contradicts the setting `u8`; empty if in none.

    Args:
        case: the label.
        spec: the catalogue row of the model.
        batch: what `put` returned for one batch.
    """
    found = nbytes_of(batch)
    height, width = spec.input.size
    wanted = 3 * height * width * case.images
    if not takes_bytes(case) or found is None or found == wanted:
        return []
    return [f"label says {U8}, but {found / wanted:g} bytes were copied for each byte of an image"]
