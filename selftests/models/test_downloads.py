"""Published weights: what is fetched from where, and that fetching is no part of loading."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError

import models.build
from models.build import WeightsError, build_module
from models.catalog import find_spec, load_catalog
from models.downloads import download, overlay
from selftests.inside import TINY

CATALOG = load_catalog()
SPEC = find_spec(TINY, CATALOG)
RESNET = find_spec("torchvision:resnet18", CATALOG)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one repository, which has the weights of the smallest network in one file; what it was asked for."""
    torch.manual_seed(7)
    there = {"model.safetensors": tmp_path / "model.safetensors"}
    safetensors.torch.save_file(timm.create_model("test_efficientnet").state_dict(), there["model.safetensors"])
    asked = []

    def fetched(repo_id, filename, *, revision=None, **more):
        asked.append((repo_id, filename, revision))
        if filename not in there:
            raise EntryNotFoundError(filename)
        return str(there[filename])

    def asked_again(*arguments, **more):
        raise AssertionError("the library asked the hub for a file that is here")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", asked_again)
    fetched.asked, fetched.there = asked, there
    return fetched


def test_the_file_of_the_hub_is_fetched_once_and_loaded(hub):
    built = build_module(SPEC, "pretrained")
    assert hub.asked == [(f"timm/test_efficientnet.{SPEC.weights}", "model.safetensors", None)]
    stored = safetensors.torch.load_file(hub.there["model.safetensors"])
    loaded = built.module.state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name], loaded[name]) for name in stored)


def test_a_repository_without_safetensors_gives_the_file_that_it_has(hub, tmp_path):
    hub.there.clear()
    hub.there["pytorch_model.bin"] = tmp_path / "pytorch_model.bin"
    file = download(SPEC)
    assert file == tmp_path / "pytorch_model.bin"
    assert overlay(file) == {}, "timm finds it in its cache, and reads it as it reads such files"
    hub.there.clear()
    assert download(SPEC) is None


def test_a_file_by_its_address_is_fetched_where_it_is_not_here(tmp_path, monkeypatch):
    fetched = []

    def fetch(url, target, hash_prefix):
        fetched.append((url, hash_prefix))
        Path(target).touch()

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    files = [download(RESNET), download(RESNET)]
    assert files == [tmp_path / "checkpoints" / "resnet18-f37072fd.pth"] * 2
    assert fetched == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd")]


def test_a_download_is_no_part_of_loading(hub, monkeypatch):
    """By a clock that a download moves by a minute, and making the module by two seconds."""
    now_s = [0.0]

    def moving(seconds, function):
        def moved(*arguments, **more):
            now_s[0] += seconds
            return function(*arguments, **more)

        return moved

    monkeypatch.setattr(models.build, "perf_counter", lambda: now_s[0])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", moving(60.0, hub))
    monkeypatch.setattr(timm, "create_model", moving(2.0, timm.create_model))
    built = build_module(SPEC, "pretrained")
    assert (built.download_s, built.load_s, built.alive_s) == (60.0, 2.0, 0.0)
    built = build_module(SPEC, "random")
    assert (built.download_s, built.load_s) == (0.0, 2.0)


def test_weights_that_nobody_published_are_not_fetched(hub):
    with pytest.raises(WeightsError, match="no published weights"):
        build_module(find_spec("efficientnet_b0_g16_gn", CATALOG), "pretrained")
    assert hub.asked == []
