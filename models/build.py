"""Builds a torch module from a catalogue row, with weights that are random, published or from a file.

Random weights are adjusted so that no part of the network is switched off. Nothing here may depend on devices, engines
or pytest: the module is fp32, on the host, in evaluation mode.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.catalog import InputSpec, ModelSpec
from models.checkpoints import WeightsError, first_line, load_file
from models.downloads import download, overlay
from models.logits import logits_only
from models.preprocess import generated_images, normalise
from models.variant_modules import efficientnet, replace_norms
from models.variants import NoVariant, Variant

CALIBRATION_IMAGES = 16
# Of images larger than this many pixels there are fewer: so many that all together have this many, but two at least.
LARGE_PIXELS, MOST_PIXELS = 400 * 400, 1_000_000
# So many of them make the heads of a detector alive.
ENLIVENING_IMAGES = 4
# A scale of a branch below this switches the branch off. Some start at or near zero: batch norms that ResNets start at
# 0, LayerScale gammas that start at 1e-6 to 0.1.
SWITCHED_OFF = 0.2
BRANCH_SCALE = 0.5
NORM_SHIFT = 1.0
# The library that holds the modules of each source of the catalogue.
_LIBRARIES = {"visionmark": "models.networks", "timm": "timm", "torchvision": "torchvision.models"}


class Kept(Protocol):
    """Where random weights are kept that were made alive."""

    def obtain(self, module: nn.Module, name: str, make: Callable[[], None]) -> None:
        """Have `make` change the module in place, or load what it made before of the same module and name."""


@dataclass(frozen=True)
class Built:
    """A module, and which weights it has.

    Attributes:
        module: the module, fp32, on the host, in evaluation mode.
        weights: `random`, `pretrained` or the name of a file.
        weights_sha256: the digest of the state dict; see `state_sha256`.
        weights_set: of a file, which of its sets was loaded and what was done to its names; else the library's tag or
            the seed.
        download_s: the seconds for fetching published weights from the network, about 0 where they were here already.
        load_s: the seconds for creating the module and loading its weights, imports, downloads and hashing not
            included.
        alive_s: the seconds for making random weights alive, or for loading those that were made before, and 0 for
            other weights; see `make_alive`.
    """

    module: nn.Module
    weights: str
    weights_sha256: str
    weights_set: str
    download_s: float
    load_s: float
    alive_s: float


def import_source(spec: ModelSpec) -> None:
    """Import the library that holds the module of a row, so that the time of building it holds no import."""
    import_module(_LIBRARIES[spec.source])


def build_module(spec: ModelSpec, weights: str | Path = "random", seed: int = 0, kept: Kept | None = None) -> Built:
    """Return the module of a row with the weights asked for. The global random state is left as it was.

    Random weights do not depend on the number of threads. On a processor with other instructions they may differ in the
    last bits, because their batch-norm statistics come from a forward pass.

    Args:
        spec: the catalogue row.
        weights: `random`, `pretrained` or a file (.safetensors, .pth, .pt, .bin).
        seed: the seed of the random weights.
        kept: where random weights are kept that were made alive, None to make them.

    Raises:
        WeightsError: if there are no such weights, if they cannot be fetched, or if the file is of another model.
        UnknownAnswer: if the network answers with something in which no logits are found.
    """
    import_source(spec)
    is_random = weights == "random"
    alive_s = download_s = 0.0
    file = None
    if weights == "pretrained":
        began = perf_counter()
        with _fetching(spec):
            file = download(spec)
        download_s = perf_counter() - began
    with one_thread() if is_random else nullcontext():
        began = perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _pretrained(spec, file) if weights == "pretrained" else _create(spec)
            if is_random:
                enliven_head(module)
        module.eval().requires_grad_(False)
        weights_set = f"seed {seed}" if is_random else f"{spec.weights}"
        if weights not in ("random", "pretrained"):
            weights_set = load_file(module, Path(weights), f"{spec.name} ({spec.source}:{spec.arch})")
        answering = _answering(module, spec.input)
        load_s = perf_counter() - began
        if is_random:
            began = perf_counter()
            if kept is None:
                make_alive(answering, spec.input)
            else:
                kept.obtain(module, f"{spec.input}", lambda: make_alive(answering, spec.input))
            alive_s = perf_counter() - began
    name = weights if isinstance(weights, str) and weights in ("random", "pretrained") else Path(weights).name
    return Built(answering, name, state_sha256(module), weights_set, download_s, load_s, alive_s)


def _answering(module: nn.Module, trained_input: InputSpec) -> nn.Module:
    """Return the module, or one that shares its layers, whose outputs are those that are compared."""
    if hasattr(module, "split"):
        apart: nn.Module = module.split(trained_input.size)  # type: ignore[operator]
        return apart.eval()
    if type(module).__module__.startswith("torchvision.models.detection"):
        taken: nn.Module = import_module("models.detectors.torchvision_networks").split(module, trained_input.size)
        return taken.eval()
    return logits_only(module, lambda: normalise(generated_images(1, trained_input.size), trained_input))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch's operators use one thread, because the order of their sums depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fresh_module(spec: ModelSpec, seed: int = 0) -> Built:
    """Return the module of a row as its library initialises it, to be trained. The global random state stays.

    Args:
        spec: the catalogue row.
        seed: the seed of the random weights.
    """
    import_source(spec)
    began = perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _create(spec).eval().requires_grad_(False)
        answering = logits_only(module, lambda: normalise(generated_images(1, spec.input.size), spec.input))
    load_s = perf_counter() - began
    return Built(answering, "random", state_sha256(module), f"seed {seed}, as initialised", 0.0, load_s, 0.0)


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
    pixels = trained_input.size[0] * trained_input.size[1]
    count = CALIBRATION_IMAGES if pixels <= LARGE_PIXELS else max(2, MOST_PIXELS // pixels)
    images = normalise(generated_images(count, trained_input.size), trained_input)
    set_batchnorm_statistics(module, images)
    enliven: Callable[[Tensor], None] | None = getattr(module, "enliven", None)
    if enliven is not None:  # a detector's heads need more
        enliven(images[:ENLIVENING_IMAGES])


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


def enliven_head(module: nn.Module) -> None:
    """Give layers whose weights start at zero the random weights that such layers have by default.

    Several libraries start the last layer of a network at zero, which training moves away from at once. Until then
    every image gets the same answer, so that no wrong answer could be told from a right one.

    Args:
        module: the freshly initialised module, which is changed in place. The random state of torch is used.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.weight.numel() and not bool(layer.weight.any()):
            layer.reset_parameters()


def _create(spec: ModelSpec) -> nn.Module:
    """Return the network that the library builds for the published weights of the row, with random weights."""
    library = import_module(_LIBRARIES[spec.source])
    if spec.source == "visionmark":
        built: nn.Module = library.network_of(spec.arch)
        return built
    if spec.variant is not None:
        return _create_variant(spec, spec.variant)
    if spec.source == "timm":
        name = f"{spec.arch}.{spec.weights}" if spec.weights else spec.arch
        created: nn.Module = library.create_model(name, pretrained=False)
        return created
    made: nn.Module = library.get_model(spec.arch, weights=None, **_torchvision_arguments(library, spec))
    return made


def _create_variant(spec: ModelSpec, variant: Variant) -> nn.Module:
    if variant.has_own_blocks:
        if spec.source != "timm":
            raise NoVariant(f"{spec.name}: expansion ratios and groups are of timm's EfficientNets")
        module = efficientnet(spec.arch, variant)
    else:
        module = _create(replace(spec, variant=None, weights=spec.made_of))
    return replace_norms(module, variant, spec.name)


def require_buildable(spec: ModelSpec) -> None:
    """Check that there can be such a variant, by building its network without memory for its weights.

    Raises:
        NoVariant: there cannot; the message says why.
    """
    with torch.device("meta"):
        _create(spec)


def layers_of(spec: ModelSpec) -> list[str]:
    """Return the names of all layers of a model, in the order of its network, which is built without weights."""
    import_source(spec)
    with torch.device("meta"):
        return [name for name, _ in _create(spec).named_modules() if name]


def _torchvision_arguments(models: Any, spec: ModelSpec) -> dict[str, Any]:
    """Return the arguments with which torchvision's builders overwrite the user's when they are given weights.

    Source: the calls of `_ovewrite_named_param` in torchvision/models.
    """
    if spec.weights is None:
        return {}
    meta = models.get_model_weights(spec.arch)[spec.weights].meta
    arguments: dict[str, Any] = {"num_classes": len(meta["categories"])}
    if models.get_model_builder(spec.arch).__module__.startswith("torchvision.models.detection"):
        arguments["weights_backbone"] = None  # else it would be fetched
    if spec.arch.startswith("vit_"):
        arguments["image_size"] = meta["min_size"][0]
    if spec.arch.startswith("maxvit"):
        arguments["input_size"] = meta["min_size"]
    if spec.arch in ("googlenet", "inception_v3"):
        arguments |= {"transform_input": True, "init_weights": False, "aux_logits": spec.arch == "inception_v3"}
    return arguments


@contextmanager
def _only_weights() -> Iterator[None]:
    """Let torch read tensors from files and run nothing that is in them, whatever a library asks for.

    Not every library asks for that. Source: `torch.load`, which obeys this variable.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _pretrained(spec: ModelSpec, file: Path | None) -> nn.Module:
    """Return the network with its published weights, which `download` has fetched."""
    with _fetching(spec):
        if spec.source == "timm":
            created: nn.Module = import_module("timm").create_model(
                f"{spec.arch}.{spec.weights}", pretrained=True, **overlay(file)
            )
            return created
        made: nn.Module = import_module("torchvision.models").get_model(spec.arch, weights=spec.weights)
        return made


@contextmanager
def _fetching(spec: ModelSpec) -> Iterator[None]:
    """Turn what goes wrong while published weights are fetched into a `WeightsError`."""
    if spec.variant is not None:
        raise WeightsError(
            f"{spec.name} has no published weights: those of the model that it is made of were trained with other "
            f"layers, and would mean nothing in it; use --weights random or --weights FILE"
        )
    if spec.weights is None:
        raise WeightsError(f"{spec.name} has no published weights; use --weights random or --weights FILE")
    if spec.source == "visionmark":
        raise WeightsError(f"the weights {spec.weights} of {spec.name} cannot be fetched; give --weights FILE")
    try:
        with _only_weights():
            yield
    # What the hubs' clients raise without a network, behind a proxy that refuses, or for a damaged download: OSError,
    # RuntimeError, httpx's ProxyError, safetensors' SafetensorError, … They have no base in common.
    except Exception as error:
        raise WeightsError(
            f"the weights {spec.weights} of {spec.name} could not be fetched ({first_line(error)}); "
            f"fetch them where there is a network and give --weights FILE"
        ) from None
