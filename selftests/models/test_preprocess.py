"""Images made and images prepared."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from models.catalog import find_spec, load_catalog
from models.preprocess import (
    build_byte_transform,
    build_transform,
    generated_images,
    normalise,
    preprocessing_identity,
)

CATALOG = load_catalog()


@pytest.fixture
def photograph():
    pixels = generated_images(1, (400, 400))[0].permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((500, 375))


def test_an_image_does_not_depend_on_how_many_are_made():
    assert torch.equal(generated_images(2, (64, 64)), generated_images(5, (64, 64))[:2])
    assert not torch.equal(generated_images(1, (64, 64)), generated_images(1, (64, 64), seed=1))


def test_an_image_may_be_wider_than_high():
    assert generated_images(1, (48, 96)).shape == (1, 3, 48, 96)


def test_images_differ_in_colour_and_contrast():
    images = generated_images(16, (64, 64)).float()
    assert images.shape == (16, 3, 64, 64)
    assert images.mean(dim=(2, 3)).std(dim=0).min() > 20
    assert images.std(dim=(1, 2, 3)).max() > 2 * images.std(dim=(1, 2, 3)).min()


def test_normalising_is_that_of_the_weights():
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    found = normalise(image, CATALOG["fbnetc_100"].input)
    assert found.dtype == torch.float32
    assert found[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    assert float(normalise(image, CATALOG["inception_v3"].input).max()) == 1.0


@pytest.mark.parametrize("name", ["fbnetc_100", "mobilenetv2_100", "efficientnet_b4", "inception_resnet_v2"])
def test_the_transform_is_timms_own_for_the_weights(name, photograph):
    import timm

    spec = CATALOG[name]
    trained = timm.get_pretrained_cfg(f"{spec.arch}.{spec.weights}")
    config = timm.data.resolve_data_config({"input_size": (3, *spec.input.size)}, trained.to_dict())
    found = build_transform(spec)(photograph)
    assert found.shape == (3, *spec.input.size)
    assert torch.equal(found, timm.data.create_transform(**config)(photograph))


def test_the_picture_is_not_squashed(photograph):
    """The FBNet sample resized to 224 x 224 whatever the shape."""
    found = build_transform(CATALOG["fbnetc_100"])(photograph)
    squashed = build_transform(CATALOG["fbnetc_100"])(photograph.resize((375, 375)))
    assert float((found - squashed).abs().mean()) > 0.05


def test_torchvisions_transform_is_its_preset(photograph):
    from torchvision.models import ResNet50_Weights

    spec = find_spec("torchvision:resnet50", CATALOG)
    assert torch.equal(build_transform(spec)(photograph), ResNet50_Weights.DEFAULT.transforms()(photograph))


RESAMPLED = ["fbnetc_100", "mobilenetv2_100", "efficientnet_b4", "torchvision:resnet50", "inception_v3"]


@pytest.mark.parametrize("name", RESAMPLED)
def test_torch_resamples_to_the_same_picture_but_for_some_levels(name):
    """A resize without antialiasing, or a cut one pixel aside, differs by tens of levels."""
    photograph = Image.fromarray(generated_images(1, (375, 500), seed=3)[0].permute(1, 2, 0).numpy())
    spec = find_spec(name, CATALOG)
    by_torch = replace(spec, input=replace(spec.input, resampler="torch"))
    found, pillows = build_byte_transform(by_torch)(photograph), build_byte_transform(spec)(photograph)
    assert found.dtype == torch.uint8 and found.is_contiguous()
    difference = (found.to(torch.int16) - pillows).abs()
    assert int(difference.max()) <= 3
    assert float((difference > 0).float().mean()) < 0.05
    assert torch.equal(build_transform(by_torch)(photograph), normalise(found, spec.input))
    aside = (found.roll(1, dims=2).to(torch.int16) - pillows).abs()
    assert int(aside.max()) > 30, "the bound tells a picture that is one pixel aside"


def test_a_crop_that_torch_has_no_way_to_is_said_and_not_done_otherwise():
    border = replace(CATALOG["fbnetc_100"].input, crop_mode="border", resampler="torch")
    with pytest.raises(ValueError, match="crop mode border"):
        build_byte_transform(replace(CATALOG["fbnetc_100"], input=border))


def test_the_fingerprint_tells_the_resampler():
    spec = CATALOG["fbnetc_100"]
    by_torch = preprocessing_identity(replace(spec, input=replace(spec.input, resampler="torch")))
    assert by_torch["resampler"] == "torch"
    assert by_torch["fingerprint"] != preprocessing_identity(spec)["fingerprint"]


def test_the_fingerprint_tells_preprocessing_apart():
    prints = {preprocessing_identity(CATALOG[name])["fingerprint"] for name in ("fbnetc_100", "resnet18")}
    assert len(prints) == 1
    assert preprocessing_identity(CATALOG["mobilenetv2_100"])["fingerprint"] not in prints
    assert preprocessing_identity(CATALOG["inception_v3"])["mean"] == [0.5, 0.5, 0.5]
