"""Brings published weights onto this machine before they are loaded: a download's time is the network's.

The files are fetched into the libraries' own caches, by the clients that the libraries use, so that a file which is
there already is not fetched again.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from models.catalog import ModelSpec

# What timm asks a repository of the hub for, in this order; a name of its own goes before, as safetensors if it is not.
_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
_DEFAULT = "pytorch_model.bin"
# The beginning of a file's SHA-256 in its name, as in resnet50-0676ba61.pth.
_HASH = re.compile(r"-([a-f0-9]{8,})\.")


def download(spec: ModelSpec) -> Path | None:
    """Fetch the file of a row's published weights, if it is not here yet.

    Args:
        spec: the row, whose weights are published.

    Returns:
        the file, or None if it is not known beforehand which file the library loads.

    Raises:
        Exception: what the hub's client raises without a network; such errors have no base in common.
    """
    if spec.source == "torchvision":
        weights = import_module("torchvision.models").get_model_weights(spec.arch)[spec.weights]
        return _from_url(str(weights.url))
    settings = import_module("timm").get_pretrained_cfg(f"{spec.arch}.{spec.weights}")
    if settings is not None and settings.hf_hub_id:
        return _from_hub(settings.hf_hub_id, settings.hf_hub_filename or _DEFAULT)
    return _from_url(settings.url) if settings is not None and settings.url else None


def overlay(file: Path | None) -> dict[str, Any]:
    """Return the arguments of `timm.create_model` with which it loads a file, without asking the hub for it again.

    Source: timm's documentation, "create_model", `pretrained_cfg_overlay`. Of other files than safetensors timm reads
    other parts when it is given them so, and finds them in its cache.
    """
    if file is None or file.suffix != ".safetensors":
        return {}
    return {"pretrained_cfg_overlay": {"file": str(file)}}


def _from_hub(identity: str, name: str) -> Path | None:
    hub = import_module("huggingface_hub")
    absent = import_module("huggingface_hub.errors").EntryNotFoundError
    repository, _, revision = identity.partition("@")
    safe = _SAFE.get(name, f"{name.removesuffix('.bin')}.safetensors" if name.endswith(".bin") else name)
    for one in dict.fromkeys((safe, name)):
        try:
            return Path(hub.hf_hub_download(repository, one, revision=revision or None))
        except absent:
            continue
    return None


def _from_url(url: str) -> Path:
    hub = import_module("torch.hub")
    name = Path(urlparse(url).path).name
    file = Path(hub.get_dir()) / "checkpoints" / name
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = _HASH.search(name)
        hub.download_url_to_file(url, str(file), found[1] if found else None)
    return file
