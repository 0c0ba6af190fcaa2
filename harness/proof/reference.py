"""The reference whose answers every case is compared with: the same weights in fp32, eager, on the CPU."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.artefacts import ArtefactCache, CacheError, instructions, key_of
from harness.devices import cpu
from harness.devices.cpu import Cpu
from harness.proof.inputs import input_images
from models.build import build_module
from models.catalog import ModelSpec
from models.tasks import Outputs, output_names

_FILE = "answers.npz"
# Kept answers stand only if the last of them comes out again with at most this share of noise, 80 dB below the answer.
# Another number of threads changes the last bits, about 100 dB below.
_MOST_NOISE = 1e-8


def reference_outputs(module: torch.nn.Module, images: torch.Tensor) -> Outputs:
    """Return the module's answers in fp32 on the CPU, in eager mode, computed one image at a time.

    Args:
        module: the module in fp32, on the host, in evaluation mode.
        images: the images, fp32 [n, 3, h, w] on the host.
    """
    names = output_names(module)
    parts = []
    with Cpu().settings("fp32"), torch.inference_mode():
        for image in images:
            answer = module(image[None])
            tensors = (answer,) if isinstance(answer, torch.Tensor) else answer
            parts.append(Outputs(names, (tensor.float().numpy() for tensor in tensors)))
    return Outputs.join(parts)


class References:
    """The reference's answers to generated images, computed when they are first asked for.

    The images are the same for every case, so the cases of one model share the answers.
    """

    def __init__(self, spec: ModelSpec, weights: str | Path, cache: ArtefactCache | None = None) -> None:
        """Remember what to build; nothing is built yet.

        Args:
            spec: the catalogue row.
            weights: `random`, `pretrained` or a file.
            cache: where the answers are kept for later runs and other processes, None to compute them here.
        """
        self._spec = spec
        self._weights = weights
        self._cache = cache
        self._held: Outputs | None = None

    def outputs(self, count: int, module: torch.nn.Module | None = None) -> Outputs:
        """Return the answers to the first `count` images.

        Args:
            count: the number of images.
            module: the module in fp32 on the host, if it is built already; None to build it if it is needed.
        """
        if self._held is None or len(self._held) < count:
            if module is None:
                module = build_module(self._spec, self._weights).module
            images = input_images(self._spec, count)
            kept = None if self._cache is None else kept_outputs(self._cache, module, images)
            self._held = kept or reference_outputs(module, images)
        return self._held.first(count)


def kept_outputs(cache: ArtefactCache, module: torch.nn.Module, images: torch.Tensor) -> Outputs | None:
    """Return the module's answers as they are kept, or compute and keep them.

    Of answers that were kept before, the last is computed again. If it comes out otherwise, none of them stands.

    Args:
        cache: where they are kept.
        module: see `reference_outputs`.
        images: see `reference_outputs`.

    Returns:
        The answers; None if they cannot be kept, or do not stand.
    """
    names = output_names(module)
    made: list[Outputs] = []

    def write(folder: Path) -> None:
        made.append(reference_outputs(module, images))
        np.savez(folder / _FILE, *made[0])

    key = key_of(
        "reference answers",
        module,
        libraries=("numpy",),
        sources=[__file__, cpu.__file__],
        images_sha256=hashlib.sha256(images.numpy().data).hexdigest(),
        instructions=instructions(),
    )
    with suppress(CacheError, OSError):
        artefact = cache.obtain(key, write)
        if not made:
            with np.load(artefact.folder / _FILE) as arrays:
                kept = Outputs(names, [arrays[f"arr_{place}"] for place in range(len(names))])
            again = reference_outputs(module, images[-1:])
            stands = all(_noise(now, old[-1:]) <= _MOST_NOISE for now, old in zip(again, kept, strict=True))
            return kept if stands else None
    return made[0] if made else None


def _noise(now: npt.NDArray[Any], old: npt.NDArray[Any]) -> float:
    """Return the power of the difference over that of what varies in an answer."""
    power = float(np.square(old - old.mean(), dtype=np.float64).sum())
    difference = float(np.square(now.astype(np.float64) - old).sum())
    return difference / power if power else (0.0 if difference == 0 else 1.0)
