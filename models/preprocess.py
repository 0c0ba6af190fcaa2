"""The input of a model: the evaluation transform that its weights were trained for, and generated images.

Nothing here may depend on devices, data sets or pytest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.catalog import InputSpec, ModelSpec, torchvision_input

if TYPE_CHECKING:
    from PIL import Image

Setting = str | int | float | list[float] | list[int]


def generated_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Make images that differ clearly in layout, colour, contrast and frequency content.

    A network answers nearly the same to any two fields of independent noise, so that noise would hide its mistakes.
    Each image has a coarse layout of soft or hard-edged regions, a grating and a texture of its own. Image `i` depends
    on `seed`, `size` and `i` alone, not on `count`.

    Args:
        count: the number of images.
        size: height and width in pixels.
        seed: the seed of the random generator.

    Returns:
        The images, uint8 RGB, `[count, 3, height, width]`.
    """
    images = torch.empty(count, 3, *size, dtype=torch.uint8)
    for index in range(count):
        images[index] = _generated_image(size, torch.Generator().manual_seed(seed * 1_000_003 + index))
    return images


def _generated_image(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    def field(cells: int, mode: str) -> Tensor:
        # Three channels that agree to a random degree: from nearly grey to fully coloured.
        saturation = uniform(0.1, 1.0)
        grey = torch.randn(1, 1, cells, cells, generator=generator)
        colour = torch.randn(1, 3, cells, cells, generator=generator)
        coarse = (1 - saturation) * grey + saturation * colour
        if mode == "nearest":
            return F.interpolate(coarse, size=size, mode=mode)[0]
        return F.interpolate(coarse, size=size, mode=mode, align_corners=False)[0]

    layout = field(round(2 ** uniform(1, 4)), "bilinear")
    if uniform(0, 1) < 0.5:
        layout = torch.tanh(uniform(2, 12) * layout)
    texture = field(max(round(min(size) / 2 ** uniform(0, 4)), 2), "nearest")
    rows, columns = (torch.linspace(-math.pi, math.pi, pixels) for pixels in size)
    angle, cycles = uniform(0, math.pi), 2 ** uniform(0.5, math.log2(max(min(size) / 4, 2)))
    phase = cycles * (math.cos(angle) * rows[:, None] + math.sin(angle) * columns[None, :])
    grating = torch.sin(phase) * torch.randn(3, 1, 1, generator=generator)
    mixed = layout + uniform(0, 1) ** 2 * texture + uniform(0, 1) ** 2 * grating
    tint = torch.rand(3, 1, 1, generator=generator)
    contrast = 2 ** uniform(-4, -1)
    return (255 * (tint + contrast * mixed)).clamp_(0, 255).to(torch.uint8)


def placed_size(trained_input: InputSpec, height: int, width: int) -> tuple[int, int]:
    """Return the height and width to which an image is resized before it lies at the top left of the input.

    With the crop mode `pad` the aspect is kept, with every other the image fills the input.

    Args:
        trained_input: the input.
        height: the height of the image in pixels.
        width: the width of the image in pixels.
    """
    tall, wide = trained_input.size
    if trained_input.crop_mode != "pad":
        return tall, wide
    scale = min((trained_input.short_side or min(tall, wide)) / min(height, width), tall / height, wide / width)
    return max(1, min(tall, int(height * scale))), max(1, min(wide, int(width * scale)))


def normalise(images: Tensor, trained_input: InputSpec) -> Tensor:
    """Scale uint8 images `[n, 3, h, w]` to 0..1 and normalise each channel; return float32 of the same shape."""
    mean = torch.tensor(trained_input.mean).view(3, 1, 1)
    std = torch.tensor(trained_input.std).view(3, 1, 1)
    # Taken apart into channels here: later steps then run through memory once in order.
    return images.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(mean).div_(std)


def build_transform(spec: ModelSpec) -> Callable[[Image.Image], Tensor]:
    """Return the evaluation transform that the weights of `spec` were trained for.

    Pillow does the resizing. For timm and for the modules of this project it is timm's evaluation transform with the
    settings of `spec.input`; for torchvision it is the preset of the weights.

    Returns:
        A function from an RGB image of any size to float32 `[3, height, width]`.

    Raises:
        ValueError: if a torchvision row states another input than the preset of its weights, or if `spec.input` wants
            torch to resample with a crop mode that it does not have.
    """
    pixels = _pixels(spec)
    # To the bit what the library's own steps give, with a copy less.
    return lambda image: normalise(pixels(image), spec.input)


def build_byte_transform(spec: ModelSpec) -> Callable[[Image.Image], Tensor]:
    """Return `build_transform` without its last step, the normalisation.

    Returns:
        A function from an RGB image of any size to uint8 `[3, height, width]`, the pixels that Pillow resized and cut.
    """
    pixels = _pixels(spec)
    return lambda image: pixels(image).contiguous()  # as Pillow has them, the channels of a pixel lie side by side


def _pixels(spec: ModelSpec) -> Callable[[Image.Image], Tensor]:
    """Return what resizes and cuts an image: uint8 [3, height, width], in any order in memory."""
    if spec.input.resampler == "torch":
        return _torch_pixels(spec)
    if spec.source == "torchvision":
        return _torchvision_pixels(_torchvision_preset(spec))
    return _timm_pixels(spec.input)


def preprocessing_identity(spec: ModelSpec) -> dict[str, Setting]:
    """Return the settings that decide which tensor an image becomes, and a short `fingerprint` of them.

    The result is flat and serialisable as JSON. Two records with equal fingerprints saw equal inputs, provided that the
    library versions were equal too.
    """
    trained_input = spec.input
    height, width = trained_input.size
    settings: dict[str, Setting] = {
        "library": "torchvision" if spec.source == "torchvision" else "timm",
        "resampler": trained_input.resampler,
        "resize": _resized_side(spec),
        "size": height if height == width else [height, width],
        "crop_pct": trained_input.crop_pct,
        "crop_mode": trained_input.crop_mode,
        "interpolation": trained_input.interpolation,
        "mean": list(trained_input.mean),
        "std": list(trained_input.std),
    }
    if trained_input.short_side is not None:
        settings["short_side"] = trained_input.short_side
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return settings | {"fingerprint": digest[:16]}


def can_resample_with_torch(trained_input: InputSpec) -> bool:
    """Return whether torch can resize an image to this input: cut from its centre, or squashed."""
    height, width = trained_input.size
    return trained_input.crop_mode == "squash" or (trained_input.crop_mode == "center" and height == width)


def _resized_side(spec: ModelSpec) -> int:
    """Return to how many pixels the short side is resized: timm rounds down, torchvision's presets state it."""
    side = min(spec.input.size) / spec.input.crop_pct
    return round(side) if spec.source == "torchvision" else math.floor(side)


def _torch_pixels(spec: ModelSpec) -> Callable[[Image.Image], Tensor]:
    """Return the resizing and cutting of `spec.input`, done by torch on bytes instead of by Pillow."""
    from torchvision.transforms import v2

    trained_input = spec.input
    if not can_resample_with_torch(trained_input):
        raise ValueError(f"{spec.name}: torch does not resample with the crop mode {trained_input.crop_mode}")
    interpolation = v2.InterpolationMode(trained_input.interpolation)
    if trained_input.crop_mode == "squash":
        sides = [math.floor(side / trained_input.crop_pct) for side in trained_input.size]
    else:
        sides = [_resized_side(spec)]
    resize = v2.Resize(sides, interpolation=interpolation, antialias=True)
    cut = v2.CenterCrop(list(trained_input.size))

    def pixels(image: Image.Image) -> Tensor:
        decoded = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        found: Tensor = cut(resize(decoded))
        return found

    return pixels


def _torchvision_preset(spec: ModelSpec) -> Any:
    models = import_module("torchvision.models")
    preset = models.get_model_weights(spec.arch)[spec.network_weights].transforms()
    if torchvision_input(preset) != replace(spec.input, resampler="Pillow"):
        raise ValueError(
            f"{spec.name}: the input {spec.input} is not that of its weights {spec.network_weights}, "
            f"{torchvision_input(preset)}; correct the catalogue row"
        )
    return preset


def _timm_pixels(trained_input: InputSpec) -> Callable[[Image.Image], Tensor]:
    from timm.data import create_transform

    transform = create_transform(
        (3, *trained_input.size),
        interpolation=trained_input.interpolation,
        mean=trained_input.mean,
        std=trained_input.std,
        crop_pct=trained_input.crop_pct,
        crop_mode=trained_input.crop_mode,
        normalize=False,
    )
    return cast("Callable[[Image.Image], Tensor]", transform)


def _torchvision_pixels(preset: Any) -> Callable[[Image.Image], Tensor]:
    """Return what torchvision's classification preset does before it converts to fp32.

    Source: `ImageClassification.forward` in torchvision/transforms/_presets.py.
    """
    functional = import_module("torchvision.transforms.functional")

    def pixels(image: Image.Image) -> Tensor:
        resized = functional.resize(
            image, preset.resize_size, interpolation=preset.interpolation, antialias=preset.antialias
        )
        cut: Tensor = functional.pil_to_tensor(functional.center_crop(resized, preset.crop_size))
        return cut

    return pixels
