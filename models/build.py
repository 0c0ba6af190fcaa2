"""Builds a torch module from a catalogue row, with weights that are random, published or from a file.

Random weights are adjusted so that no part of the network is switched off. Nothing here may depend on devices, engines
or pytest: the module is fp32, on the host, in evaluation mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from models.catalog import InputSpec, ModelSpec
from models.preprocess import generated_images, normalise

CALIBRATION_IMAGES = 16
# A scale of a branch below this switches the branch off. Some start at or near zero: batch norms that ResNets start at
# 0, LayerScale gammas that start at 1e-6 to 0.1.
SWITCHED_OFF = 0.2
BRANCH_SCALE = 0.5
NORM_SHIFT = 1.0
KEYS_SHOWN = 3
# The library that holds the modules of each source of the catalogue.
_LIBRARIES = {"visionmark": "models.efficientnet_g16_gn", "timm": "timm", "torchvision": "torchvision.models"}


class WeightsError(RuntimeError):
    """Weights cannot be had or are not this model's; the message says what to do."""


@dataclass(frozen=True)
class Built:
    """A module, and which weights it has.

    Attributes:
        module: the module, fp32, on the host, in evaluation mode.
        weights: `random`, `pretrained` or the name of a file.
        weights_sha256: the digest of the state dict; see `state_sha256`.
        load_s: the seconds for creating the module and loading its weights, imports and hashing not included.
        alive_s: the seconds for making random weights alive, and 0 for other weights; see `make_alive`.
    """

    module: nn.Module
    weights: str
    weights_sha256: str
    load_s: float
    alive_s: float


def import_source(spec: ModelSpec) -> None:
    """Import the library that holds the module of a row, so that the time of building it holds no import."""
    import_module(_LIBRARIES[spec.source])


def build_module(spec: ModelSpec, weights: str | Path = "random", seed: int = 0) -> Built:
    """Return the module of a row with the weights asked for. The global random state is left as it was.

    Random weights do not depend on the number of threads. On a processor with other instructions they may differ in the
    last bits, because their batch-norm statistics come from a forward pass.

    Args:
        spec: the catalogue row.
        weights: `random`, `pretrained` or a file (.safetensors, .pth, .pt, .bin).
        seed: the seed of the random weights.

    Raises:
        WeightsError: if there are no such weights, if they cannot be fetched, or if the file is of another model.
    """
    import_source(spec)
    is_random = weights == "random"
    alive_s = 0.0
    with _one_thread() if is_random else nullcontext():
        began = perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _fetch_pretrained(spec) if weights == "pretrained" else _create(spec)
        module.eval().requires_grad_(False)
        if weights not in ("random", "pretrained"):
            _load_file(module, Path(weights), spec)
        load_s = perf_counter() - began
        if is_random:
            began = perf_counter()
            make_alive(module, spec.input)
            alive_s = perf_counter() - began
    name = weights if isinstance(weights, str) and weights in ("random", "pretrained") else Path(weights).name
    return Built(module, name, state_sha256(module), load_s, alive_s)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch's operators use one thread, because the order of their sums depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_alive(module: nn.Module, trained_input: InputSpec) -> None:
    """Give random weights what training would have given them, so that no part of the network hides its mistakes.

    A freshly initialised network gives nearly the same logits whatever it sees, has branches that are switched off, and
    is chaotic once its batch norms are set: rounding noise grows with depth until the answers of bf16 resemble no
    image's. Therefore branches are switched on at half strength, and batch norms shift by one standard deviation, which
    leaves most rectifiers in their linear part. The statistics of the batch norms are those of a forward pass in
    training mode over generated images.

    Args:
        module: the module in evaluation mode, which is changed in place.
        trained_input: the size and the normalisation of its input.
    """
    for name, parameter in module.named_parameters():
        is_scale = name.rpartition(".")[2] in ("weight", "gamma") and parameter.dim() == 1 and parameter.numel() > 1
        if is_scale and float(parameter.abs().max()) < SWITCHED_OFF:
            parameter.fill_(BRANCH_SCALE)
    for norm in _batchnorms(module):
        if norm.bias is not None:
            norm.bias.fill_(NORM_SHIFT)
    set_batchnorm_statistics(module, normalise(generated_images(CALIBRATION_IMAGES, trained_input.size), trained_input))


def set_batchnorm_statistics(module: nn.Module, images: Tensor) -> None:
    """Set every batch norm's running statistics to those of one batch, with everything else in evaluation mode.

    Args:
        module: the module, which is in evaluation mode before and after.
        images: the batch, fp32 `[n, 3, h, w]`.
    """
    norms = _batchnorms(module)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def _batchnorms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def state_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of the state dict: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _create(spec: ModelSpec) -> nn.Module:
    library = import_module(_LIBRARIES[spec.source])
    if spec.source == "visionmark":
        built: nn.Module = getattr(library, spec.arch)()
        return built
    if spec.source == "timm":
        created: nn.Module = library.create_model(spec.arch, pretrained=False)
        return created
    made: nn.Module = library.get_model(spec.arch, weights=None)
    return made


def _fetch_pretrained(spec: ModelSpec) -> nn.Module:
    if spec.weights is None:
        raise WeightsError(f"{spec.name} has no published weights; use --weights random or --weights FILE")
    if spec.source == "timm":
        fetch = partial(import_module("timm").create_model, f"{spec.arch}.{spec.weights}", pretrained=True)
    else:
        fetch = partial(import_module("torchvision.models").get_model, spec.arch, weights=spec.weights)
    try:
        module: nn.Module = fetch()
    except (OSError, RuntimeError, ValueError) as error:  # what the hubs' clients raise without a network
        raise WeightsError(
            f"the weights {spec.weights} of {spec.name} could not be fetched ({_first_line(error)}); "
            f"fetch them where there is a network and give --weights FILE"
        ) from None
    return module


def _load_file(module: nn.Module, path: Path, spec: ModelSpec) -> None:
    if not path.is_file():
        raise WeightsError(f"no file {path}; give --weights FILE, random or pretrained")
    try:
        state: Mapping[str, Tensor] = import_module("timm.models").load_state_dict(str(path), use_ema=False)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise WeightsError(f"{path} is no file of weights ({_first_line(error)})") from None
    wrong = _mismatches(module.state_dict(), state)
    if wrong:
        raise WeightsError(f"{path} holds no weights of {spec.name} ({spec.source}:{spec.arch}): {'; '.join(wrong)}")
    module.load_state_dict(state, strict=True)


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mismatches(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return the missing, unexpected and differently shaped keys, each kind counted and the first few named."""
    kinds = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in found and found[key].shape != tensor.shape
        ],
    }
    return [
        f"{len(keys)} keys {kind}: {', '.join(keys[:KEYS_SHOWN])}{', …' if len(keys) > KEYS_SHOWN else ''}"
        for kind, keys in kinds.items()
        if keys
    ]
