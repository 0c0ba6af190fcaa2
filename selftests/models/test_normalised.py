"""Bytes in: the same numbers as by normalising on the host, exact constants in every format, and nothing but pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models.catalog import InputSpec, find_spec, load_catalog
from models.normalised import Normalise, NormalisedInside, as_bytes, is_normalised, normalised_inside
from models.preprocess import build_byte_transform, build_transform, generated_images, normalise

CATALOG = load_catalog()
INPUT = InputSpec((32, 32), 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = generated_images(4, (32, 32))


class Passing(nn.Module):
    """Returns what it is given, so that a test sees what a model inside is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images


def test_the_model_inside_gets_what_the_host_would_have_given_it():
    assert torch.allclose(normalised_inside(Passing(), INPUT)(PIXELS), normalise(PIXELS, INPUT), atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_reaches_the_model_inside_and_not_the_constants(dtype):
    module = normalised_inside(Passing(), INPUT).to(dtype)
    assert module.model.weight.dtype is dtype
    assert torch.equal(module.normalise.scale, Normalise(INPUT).scale)
    assert torch.equal(module(PIXELS), normalised_inside(Passing(), INPUT)(PIXELS).to(dtype))


def test_constants_that_were_cast_would_be_seen():
    """What the constants are kept from: in bf16 they are off by far more than a rounding of the result."""
    exact = Normalise(INPUT)
    cast = PIXELS.to(torch.bfloat16) * exact.scale.bfloat16() + exact.shift.bfloat16()
    once = exact(PIXELS).to(torch.bfloat16)
    assert (cast.float() - exact(PIXELS)).abs().mean() > 1.5 * (once.float() - exact(PIXELS)).abs().mean()


@pytest.mark.parametrize("make", [torch.jit.script, lambda module: torch.jit.trace(module, PIXELS)])
def test_it_can_be_scripted_and_traced(make):
    module = normalised_inside(Passing(), INPUT)
    assert torch.equal(make(module)(PIXELS), module(PIXELS))


def test_bytes_come_back_whole():
    assert torch.equal(as_bytes(normalise(PIXELS, INPUT), INPUT), PIXELS)


def test_another_normalisation_is_another_structure():
    other = InputSpec((32, 32), 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert str(NormalisedInside(Passing(), INPUT)) != str(NormalisedInside(Passing(), other))
    assert is_normalised(other) and not is_normalised(InputSpec((32, 32), 1, "bicubic", (0.0,) * 3, (1.0,) * 3))


@pytest.mark.parametrize("name", ["fbnetc_100", "torchvision:resnet18"])
def test_the_byte_transform_is_the_transform_without_its_normalisation(name):
    spec = find_spec(name, CATALOG)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 260, 3), dtype=np.uint8))
    pixels = build_byte_transform(spec)(image)
    assert pixels.dtype is torch.uint8
    assert torch.allclose(normalise(pixels, spec.input), build_transform(spec)(image), atol=1e-6)
