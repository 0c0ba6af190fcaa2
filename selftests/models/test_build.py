"""From a row to a module: every row builds, random weights are alive, files are checked."""

import copy
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from harness.engines.torch.batchnorm import replace_fused_batchnorm
from harness.proof import input_images
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.checkpoints import WeightsError
from models.tasks.classify import spread, sqnr_db
from selftests.inside import ROOT, clean_environment
from selftests.logits import reference_logits

CATALOG = load_catalog()


# One of each family; the others are larger and built alike.
QUICK = ("fbnetc_100", "resnet18", "mobilenetv3_small_100", "efficientnet_b0", "efficientnet_b0_g16_gn")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name, spec in CATALOG.items()
        if spec.task == "classify"
    ],
)
def test_every_row_gives_a_thousand_finite_outputs_that_tell_images_apart(name):
    spec = CATALOG[name]
    logits = reference_logits(build_module(spec).module, input_images(spec, 4))
    assert logits.shape == (4, 1000)
    assert np.isfinite(logits).all()
    assert spread(logits) > 0.05


def test_random_weights_are_the_same_every_time_and_leave_the_global_state_alone():
    spec = CATALOG["mobilenetv3_small_100"]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = build_module(spec)
    assert torch.equal(torch.rand(3), expected)
    assert build_module(spec).weights_sha256 == first.weights_sha256
    assert build_module(spec, seed=1).weights_sha256 != first.weights_sha256
    assert first.weights == "random"
    assert not first.module.training


DIGESTS = """
from models.build import build_module
from models.catalog import load_catalog

catalog = load_catalog()
print("DIGESTS", *(build_module(catalog[name]).weights_sha256 for name in ("resnet18", "mobilenetv3_small_100")))
"""


def test_random_weights_do_not_depend_on_the_number_of_threads():
    found = []
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            cwd=ROOT,
            env={**clean_environment(), "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.rpartition("DIGESTS")[2].split())
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_making_random_weights_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        build_module(CATALOG["mobilenetv3_small_100"])
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_hash_sees_a_single_weight():
    spec = CATALOG["resnet18"]
    built = build_module(spec)
    from models.build import state_sha256

    with torch.no_grad():
        built.module.fc.bias[0] += 1e-6
    assert state_sha256(built.module) != built.weights_sha256


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4.1.conv2"), ("resnet50", "layer4.2.conv1"), ("fbnetc_100", "blocks.5.2.conv_pw")],
)
def test_no_branch_is_switched_off(name, layer):
    """timm starts the last batch norm of a residual branch at zero: whatever runs in the branch, nothing shows."""
    spec = CATALOG[name]
    module = build_module(spec).module
    images = input_images(spec, 4)
    before = reference_logits(module, images)
    with torch.no_grad():
        module.get_submodule(layer).weight.mul_(-1)
    assert sqnr_db(before, reference_logits(module, images)) < 20


def test_batchnorm_statistics_are_those_of_images():
    module = build_module(CATALOG["resnet18"]).module
    assert module.bn1.momentum == 0.1
    assert float(module.bn1.running_var.mean()) != 1.0
    assert not torch.equal(module.layer4[1].bn2.running_mean, torch.zeros(512))


def test_plain_batch_norm_gives_equal_outputs_and_touches_no_other_instance():
    spec = CATALOG["fbnetc_100"]
    fused = build_module(spec).module
    plain = copy.deepcopy(fused)
    images = input_images(spec, 2)
    assert replace_fused_batchnorm(plain) > 50
    assert replace_fused_batchnorm(plain) == 0
    np.testing.assert_array_equal(reference_logits(plain, images), reference_logits(fused, images))
    from timm.layers import BatchNormAct2d

    assert sum(isinstance(layer, BatchNormAct2d) for layer in fused.modules()) > 50
    assert not any(isinstance(layer, BatchNormAct2d) for layer in plain.modules())
    again = build_module(spec).module
    np.testing.assert_array_equal(reference_logits(again, images), reference_logits(fused, images))


def test_plain_batch_norm_keeps_the_same_tensors():
    module = build_module(CATALOG["mobilenetv3_small_100"]).module
    before = {tensor.data_ptr() for tensor in module.parameters()}
    replace_fused_batchnorm(module)
    assert {tensor.data_ptr() for tensor in module.parameters()} == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_are_loaded(tmp_path, suffix):
    from safetensors.torch import save_file

    spec = CATALOG["resnet18"]
    built = build_module(spec, seed=3)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": built.module.state_dict()}, path)
    else:
        save_file(built.module.state_dict(), path)
    loaded = build_module(spec, path)
    assert loaded.weights_sha256 == built.weights_sha256
    assert loaded.weights == path.name


def test_weights_of_another_architecture_are_refused_naming_keys(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(build_module(CATALOG["resnet18"]).module.state_dict(), path)
    with pytest.raises(WeightsError, match=r"keys missing: .*layer1\.2\.conv1\.weight"):
        build_module(CATALOG["resnet34"], path)
    with pytest.raises(WeightsError, match=r"of another shape: .*conv1\.weight"):
        build_module(CATALOG["resnet50"], path)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02]q\x00."])
def test_what_is_no_file_of_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        build_module(CATALOG["resnet18"], path)


class ProxyError(Exception):
    """As httpx raises it: derived from Exception alone."""


@pytest.mark.parametrize("error", [OSError, RuntimeError, ProxyError])
def test_weights_that_cannot_be_fetched_say_how_to_give_a_file(monkeypatch, error):
    import huggingface_hub

    def offline(*arguments, **settings):
        raise error("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(WeightsError, match="no route to host.*--weights FILE"):
        build_module(CATALOG["resnet18"], "pretrained")


class Trap:
    """What it holds is called by whoever unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_a_published_file_runs_nothing(source, tmp_path, monkeypatch):
    """torchvision asks torch.hub for its files as pickles, and only a checksum of eight letters stands before that."""
    import timm
    import torchvision

    file, mark = tmp_path / "weights.pth", tmp_path / "it_ran"
    torch.save({"weight": Trap(str(mark))}, file)

    def fetch(*arguments, **settings):
        return torch.hub.load_state_dict_from_url(file.as_uri(), model_dir=str(tmp_path / "hub"))

    monkeypatch.setattr("models.build.download", lambda spec: None)  # else the hub is asked first
    monkeypatch.setattr(timm, "create_model", fetch)
    monkeypatch.setattr(torchvision.models, "get_model", fetch)
    spec = CATALOG["resnet18"] if source == "timm" else find_spec("torchvision:resnet18", CATALOG)
    with pytest.raises(WeightsError, match="could not be fetched"):
        build_module(spec, "pretrained")
    assert not mark.exists(), "the file was run"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_torchvision_model_builds():
    spec = find_spec("torchvision:mobilenet_v3_small", CATALOG)
    assert reference_logits(build_module(spec).module, input_images(spec, 2)).shape == (2, 1000)


@pytest.mark.parametrize(
    "name", ["torchvision:vit_b_32", "timm:mixer_s32_224", "timm:resmlp_12_224", "timm:gmlp_ti16_224"]
)
def test_a_network_whose_last_layer_starts_at_zero_tells_images_apart(name):
    spec = find_spec(name, CATALOG)
    built = build_module(spec)
    assert spread(reference_logits(built.module, input_images(spec, 4))) > 0.05
    assert build_module(spec).weights_sha256 == built.weights_sha256


def published(spec):
    """The network that torchvision's builder makes when it is given the weights, which are not fetched."""
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(spec.arch)[spec.weights]
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(type(weights), "get_state_dict", lambda self, **settings: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state, **settings: None)
        return get_model(spec.arch, weights=weights)


def layers(module):
    settings = ("transform_input", "aux_logits", "image_size", "num_classes")
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return shapes, {name: getattr(module, name, None) for name in settings}


@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v3", "vit_h_14", "vit_b_16.IMAGENET1K_SWAG_E2E_V1", "maxvit_t", "resnet50"]
)
def test_a_network_of_torchvision_is_that_of_its_published_weights(name):
    from models.build import _create

    spec = find_spec(f"torchvision:{name}", CATALOG)
    with torch.device("meta"):
        assert layers(_create(spec)) == layers(published(spec))


def test_a_tag_of_timm_has_its_own_classes_with_random_weights():
    from models.build import _create

    spec = find_spec("timm:vit_tiny_patch16_224.augreg_in21k", CATALOG)
    assert _create(spec).num_classes == 21843


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_that_answers_with_a_tuple_when_scripted_answers_with_its_logits(name):
    spec = find_spec(f"torchvision:{name}", CATALOG)
    built = build_module(spec)
    images = input_images(spec, 2)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = built.module(images)
        scripted = torch.jit.freeze(torch.jit.script(built.module))(images)
    assert expected.shape == (2, 1000)
    torch.testing.assert_close(scripted, expected, rtol=1e-3, atol=1e-3)
