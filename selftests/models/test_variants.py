"""Variants of models: their names, that their layers are those which the name says, and why some cannot be."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import nn

from models.build import build_module
from models.catalog import UnknownModel, find_spec, load_catalog
from models.checkpoints import WeightsError
from models.preprocess import generated_images, normalise
from models.tasks.classify import spread
from models.variant_modules import StridedGroupNorm, efficientnet, replace_norms
from models.variants import NoVariant, Variant, parse_variant

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("resnet50+gn32", Variant(32)),
        ("resnet50+gn32s", Variant(32, strided=True)),
        ("resnet50+nonorm", Variant(0)),
        ("resnet50+gn32+eps0.001", Variant(32, eps=1e-3)),
        ("efficientnet_b0+e4+g16+gn4", Variant(4, expand_ratio=4, group_channels=16)),
    ],
)
def test_a_name_says_a_variant_and_back(name, variant):
    base, found = parse_variant(name)
    assert found == variant
    assert found.name_of(base) == name


def test_words_in_another_order_are_the_same_model():
    assert find_spec("efficientnet_b0+gn4+e4", CATALOG).name == "efficientnet_b0+e4+gn4"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50+q", "'q' is no variant; there are e4, g16"),
        ("resnet50+gn32+nonorm", "denies another word of its kind"),
        ("resnet50+eps0.1", "an epsilon is of group norms"),
        ("resnet50+gn48", "48 groups do not divide a layer of 64 channels; the largest .* is 64"),
        ("resnet50+e4", "and not of resnet50"),
        ("timm:vit_tiny_patch16_224+gn4", "no batch norm to replace"),
        ("rsnet50+gn32", "no model 'rsnet50' in the catalogue .did you mean resnet50"),
    ],
)
def test_what_cannot_be_says_why(name, words):
    with pytest.raises(UnknownModel, match=words):
        find_spec(name, CATALOG)


def test_published_weights_of_another_network_are_refused_with_the_reason():
    with pytest.raises(WeightsError, match="trained with other layers, and would mean nothing"):
        build_module(find_spec("resnet18+gn32", CATALOG), "pretrained")


def test_the_row_under_a_name_of_its_own_is_that_variant():
    row, named = (
        find_spec(name, CATALOG) for name in ("efficientnet_b0_g16_gn", "efficientnet_b0+e4+g16+gn4+eps0.001")
    )
    assert build_module(row).weights_sha256 == build_module(named).weights_sha256
    assert parse_variant("efficientnet_b0_g16_gn+gn4s")[1] == Variant(4, True, 1e-3, 4, 16)


def test_the_blocks_of_the_library_come_out_of_our_own_builder():
    import timm

    with torch.device("meta"):
        own, theirs = efficientnet("efficientnet_b0", Variant()), timm.create_model("efficientnet_b0")
    assert [(name, tuple(one.shape)) for name, one in own.state_dict().items()] == [
        (name, tuple(one.shape)) for name, one in theirs.state_dict().items()
    ]


def test_an_activation_that_was_joined_to_a_batch_norm_stays():
    images = torch.randn(2, 8, 4, 4) - 1
    for variant in (Variant(4), Variant(4, strided=True), Variant(0)):
        module = nn.Sequential(BatchNormAct2d(8, act_layer=nn.ReLU)).eval()
        answer = replace_norms(module, variant, "one")(images)
        assert bool((answer >= 0).all()) and bool((answer > 0).any())
    replaced = replace_norms(nn.Sequential(BatchNormAct2d(8, act_layer=nn.ReLU)), Variant(4), "one")[0]
    assert isinstance(replaced, GroupNormAct) and set(replaced.state_dict()) == {"weight", "bias"}


def test_strided_groups_are_a_group_norm_of_permuted_channels_and_another_function():
    images, groups, channels = torch.randn(2, 12, 3, 3), 4, 12
    strided = StridedGroupNorm(groups, channels, 1e-5).requires_grad_(False)
    strided.weight.copy_(torch.rand(channels))
    expected = torch.empty_like(images)
    for group in range(groups):
        members = images[:, group::groups]
        mean = members.mean((1, 2, 3), keepdim=True)
        variance = members.var((1, 2, 3), keepdim=True, unbiased=False)
        expected[:, group::groups] = (members - mean) / (variance + 1e-5).sqrt()
    expected *= strided.weight[:, None, None]
    assert torch.allclose(strided(images), expected, atol=1e-5)
    adjacent = nn.GroupNorm(groups, channels).requires_grad_(False)
    assert not torch.allclose(adjacent(images), strided(images) / strided.weight[:, None, None], atol=0.1)


def test_no_batch_norm_at_all_is_an_error_and_not_the_model_as_it_was():
    with pytest.raises(NoVariant, match="no batch norm"):
        replace_norms(nn.Sequential(nn.Linear(2, 2)), Variant(2), "linear")


@pytest.mark.parametrize("name", ["resnet18+gn32", "resnet18+nonorm"])
def test_random_weights_of_a_variant_tell_images_apart(name):
    spec = find_spec(name, CATALOG)
    images = normalise(generated_images(4, spec.input.size), spec.input)
    assert spread(build_module(spec).module(images).numpy()) > 0.05
