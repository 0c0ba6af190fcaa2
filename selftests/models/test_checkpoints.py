"""Files of weights: what the libraries' loaders take is taken and told, and what is none is refused in one line."""

import pickle
from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file

from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.checkpoints import WeightsError

SPEC = find_spec("timm:test_resnet", load_catalog())
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 46807446\n"


@pytest.fixture(scope="module")
def other():
    """Weights that are not those of the default seed."""
    return build_module(SPEC, seed=3)


@pytest.mark.parametrize("keeps_counters", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_that_wrappers_and_older_versions_wrote_are_understood_and_told(
    tmp_path, other, keeps_counters, prefix, suffix
):
    state = {
        f"{prefix}{name}": tensor
        for name, tensor in other.module.state_dict().items()
        if keeps_counters or not name.endswith("num_batches_tracked")
    }
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(state, path)
    loaded = build_module(SPEC, path)
    for name, tensor in other.module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded.module.state_dict()[name], tensor), name
    assert ("num_batches_tracked" in loaded.weights_set) is not keeps_counters
    assert ("prefix" in loaded.weights_set) is bool(prefix)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema"])
def test_of_several_sets_that_of_timms_own_loader_is_taken_and_told(tmp_path, other, averaged):
    from timm.models import load_state_dict

    path = tmp_path / "run.pth.tar"
    raw = build_module(SPEC, seed=4).module.state_dict()
    torch.save({"epoch": 3, "args": Namespace(lr=0.1), "state_dict": raw, averaged: other.module.state_dict()}, path)
    loaded = build_module(SPEC, path)
    assert loaded.weights_sha256 == other.weights_sha256
    assert loaded.weights_set == f"the averaged weights of {averaged}, not those of state_dict"
    default = load_state_dict(str(path))
    assert all(torch.equal(tensor, loaded.module.state_dict()[name]) for name, tensor in default.items())


def test_heads_that_serve_training_alone_are_left_out_and_told(tmp_path, other):
    path = tmp_path / "aux.pth"
    torch.save({**other.module.state_dict(), "AuxLogits.fc.weight": torch.zeros(2, 2)}, path)
    loaded = build_module(SPEC, path)
    assert loaded.weights_sha256 == other.weights_sha256
    assert "less 1 tensors of heads" in loaded.weights_set


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin", ".pt"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "is a pointer.*git lfs pull"),
        (b"/annex/objects/SHA256-s1--0", "is a pointer"),
        (b"", "is empty"),
        ((8).to_bytes(8, "little") + b'{"a":', "damaged"),
        (b"PK\x03\x04 and no more", "damaged"),
        (bytes(4096), "damaged"),
    ],
    ids=["pointer", "annex", "empty", "cut off", "zip", "zeros"],
)
def test_what_is_no_file_of_weights_is_one_line(tmp_path, suffix, content, words):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"weights\{suffix} {words}|weights\{suffix} .*{words}") as caught:
        build_module(SPEC, path)
    assert "\n" not in str(caught.value)


def test_a_file_of_objects_or_of_text_names_no_argument_of_the_library(tmp_path):
    for content in (b"import os\n", pickle.dumps(object(), protocol=2)):
        path = tmp_path / "own.py"
        path.write_bytes(content)
        with pytest.raises(
            WeightsError, match=r"damaged \(UnpicklingError: .*save the model's state_dict\(\)"
        ) as caught:
            build_module(SPEC, path)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("held", [{"epoch": 3}, {"state_dict": {"lr": 0.1}}, [1, 2]])
def test_a_file_of_something_else_says_what_to_save(tmp_path, held):
    path = tmp_path / "weights.pth"
    torch.save(held, path)
    with pytest.raises(WeightsError, match=r"save the model's state_dict\(\)"):
        build_module(SPEC, path)
