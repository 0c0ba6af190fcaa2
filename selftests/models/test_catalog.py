"""The catalogue: what a row may say, and that every row is what its library says."""

import subprocess
import sys

import pytest

from models.catalog import CatalogError, Gap, UnknownModel, find_spec, load_catalog
from selftests.inside import ROOT

CATALOG = load_catalog()
ROW = "{source: timm, weights: tv_in1k, size: 224, crop_pct: 0.875, interpolation: bilinear}"
PROMISED = {
    *("fbnetc_100", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenetv2_100"),
    *("mobilenetv3_small_100", "mobilenetv3_large_100", "efficientnet_b0", "efficientnet_b4", "efficientnet_b4_380"),
    *("efficientnet_b0_g16_gn", "efficientnet_b4_g16_gn", "resnext50_32x4d", "resnext101_32x4d"),
    *("inception_v3", "inception_v4", "inception_resnet_v2"),
    *("ssd_mobilenet_v1", "ssd_mobilenet_v1_075", "ssdlite320_mobilenet_v3_large", "ssd300_vgg16"),
    *("fasterrcnn_fbnetv3a", "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn"),
    *("retinanet_resnet50_fpn", "rfcn_resnet101"),
}


def load(tmp_path, text):
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    return load_catalog(path)


def test_the_catalogue_holds_the_models_that_the_documents_promise():
    assert set(CATALOG) >= PROMISED


def test_a_row_is_enough_to_add_a_model(tmp_path):
    spec = load(tmp_path, f"resnet18: {ROW}")["resnet18"]
    assert (spec.name, spec.arch, spec.source, spec.input.size) == ("resnet18", "resnet18", "timm", (224, 224))
    assert spec.input.mean == (0.485, 0.456, 0.406)
    assert (spec.task, spec.published) == ("classify", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("m: {soruce: timm}", ["m", "soruce", "source"]),
        (f"m: {ROW[:-1]}, colour: red}}", ["m", "colour"]),
        ("m: {source: timm, weights: null, size: 224, crop_pct: 0.875}", ["m", "interpolation"]),
        (f"m: {ROW.replace('224', '-1')}", ["m", "size"]),
        (f"m: {ROW.replace('224', 'large')}", ["m", "size"]),
        (f"m: {ROW.replace('0.875', '2')}", ["m", "crop_pct"]),
        (f"m: {ROW.replace('timm', 'keras')}", ["m", "keras"]),
        (f"m: {ROW[:-1]}, mean: [1, 2]}}", ["m", "mean"]),
        (f"m: {ROW.replace('224', '[224, 0]')}", ["m", "size"]),
        (f"m: {ROW[:-1]}, published: {{top1: 101, top5: 102}}}}", ["m", "published", "top1"]),
        (f"m: {ROW[:-1]}, published: {{top1: 71}}}}", ["m", "published", "top5"]),
        (f"m: {ROW[:-1]}, task: segment}}", ["m", "task", "classify"]),
        (f"m: {ROW[:-1]}, gaps: [{{kind: someday, reason: x}}]}}", ["m", "someday"]),
        (f"m: {ROW[:-1]}, gaps: [{{kind: never}}]}}", ["m", "reason"]),
        (f"m: {ROW}\nm: {ROW}", ["m"]),
        ("m: 3", ["m"]),
        ("[]", ["catalog"]),
    ],
)
def test_a_wrong_row_is_rejected_naming_row_and_key(tmp_path, text, words):
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, text)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_gap_covers_what_it_names_and_any_of_what_it_does_not():
    gap = Gap("never", "no kernel", device="cuda", precision=None, engine="trace")
    assert gap.covers("cuda", "bf16", "trace")
    assert gap.covers("cuda:1", "fp32", "trace")
    assert not gap.covers("cpu", "bf16", "trace")
    assert not gap.covers("cuda", "bf16", "eager")


@pytest.mark.parametrize("name", [name for name, spec in CATALOG.items() if spec.source == "timm"])
def test_a_row_agrees_with_timms_own_configuration_of_its_weights(name):
    import timm

    spec = CATALOG[name]
    trained = timm.get_pretrained_cfg(f"{spec.arch}.{spec.weights}")
    assert trained is not None
    assert spec.input.mean == tuple(trained.mean)
    assert spec.input.std == tuple(trained.std)
    assert spec.input.interpolation == trained.interpolation
    assert spec.input.crop_pct == trained.crop_pct
    assert spec.input.size in (trained.input_size[1:], (trained.test_input_size or trained.input_size)[1:])
    assert 60 < spec.published["top1"] < spec.published["top5"] < 100


def test_a_model_without_a_row_is_found_in_its_library():
    assert find_spec("timm:convnext_tiny", CATALOG).arch == "convnext_tiny"
    assert find_spec("torchvision:resnet18", CATALOG).input.interpolation == "bilinear"


@pytest.mark.parametrize("name", ["resnet5", "timm:resnet5o", "torchvision:resnet5o"])
def test_an_unknown_model_gives_close_names(name):
    with pytest.raises(UnknownModel, match="resnet50"):
        find_spec(name, CATALOG)


def test_a_tag_of_torchvision_names_one_set_of_weights_with_its_own_input():
    first, second = (find_spec(f"torchvision:resnet50.{tag}", CATALOG) for tag in ("IMAGENET1K_V1", "V2"))
    assert (first.weights, second.weights) == ("IMAGENET1K_V1", "IMAGENET1K_V2")
    assert first.input.crop_pct != second.input.crop_pct
    assert find_spec("torchvision:resnet50", CATALOG).weights == "IMAGENET1K_V2"
    assert find_spec("torchvision:vit_h_14", CATALOG).input.size == (518, 518)


def test_an_unknown_tag_of_torchvision_lists_those_there_are():
    with pytest.raises(UnknownModel, match="no weights 'V3'; it has: IMAGENET1K_V1, IMAGENET1K_V2"):
        find_spec("torchvision:resnet50.V3", CATALOG)


def test_reading_the_catalogue_imports_no_framework():
    code = (
        "import sys, models.catalog as c; c.load_catalog(); print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
