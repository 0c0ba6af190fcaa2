"""Static int8 quantisation of a torch module by PT2E: export and calibration, with the result cached as a file.

The result is still a torch module, in which pairs of quantize and dequantize stand that inductor fuses into int8
kernels.
"""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, key_of
from harness.artefacts.calibration import calibration_batches
from harness.devices import Device

FILE_NAME = "model.pt2"
_ROOM = "torchao.quantization.pt2e.quantizer"
# Maps a quantiser to its module, its class and its default configuration, which has uint8 or int8 activations and int8
# weights with one scale per channel.
_QUANTISERS = {
    "x86": ("x86_inductor_quantizer", "X86InductorQuantizer", "get_default_x86_inductor_quantization_config"),
    "xpu": ("xpu_inductor_quantizer", "XPUInductorQuantizer", "get_default_xpu_inductor_quantization_config"),
}
_IS_X86 = platform.machine() in ("x86_64", "AMD64")
# Maps a device to the quantiser for which inductor has kernels on that device.
QUANTISER_OF = {"xpu": "xpu", **({"cpu": "x86"} if _IS_X86 else {})}


def cannot_quantise(engine: str, device: Device) -> str | None:
    """Return None, or the reason why an engine that compiles by inductor has no int8 on a device."""
    if device.kind not in QUANTISER_OF:
        return f"inductor has no int8 quantiser for {device.name}: use --engine tensorrt on NVIDIA GPUs"
    if find_spec("torchao") is None:
        return f"{engine} quantises by torchao, which is not installed: pip install -r requirements/engines.txt"
    return None


def import_quantiser() -> None:
    """Import what quantising and loading a quantised program need."""
    with quietly():
        import_module("torchao.quantization.pt2e.quantize_pt2e")
        for place, _, _ in _QUANTISERS.values():
            import_module(f"{_ROOM}.{place}")
        import_module("torch.ao.quantization.fx._decomposed")


def quantised_program(
    module: torch.nn.Module,
    example: torch.Tensor,
    model: str,
    quantiser: str,
    layout: str,
    put: Callable[[torch.Tensor], torch.Tensor],
    artefacts: Artefacts,
) -> tuple[torch.nn.Module, Artefact]:
    """Quantise the module for any batch size, or load it from the cache if an earlier run did.

    Args:
        module: the module in fp32, on its device, in evaluation mode.
        example: images, fp32 [n, 3, h, w], on that device.
        model: the model's name, for the cache key.
        quantiser: `x86` or `xpu`.
        layout: the layout of the module's weights, for the cache key.
        put: moves images to the device.
        artefacts: the cache and the calibration images.

    Returns:
        The quantised module, and the artefact that it was loaded from.

    Source: PyTorch tutorial, "PyTorch 2 Export Quantization with X86 Backend through Inductor".
    """
    calibration = artefacts.calibration()

    def make(folder: Path) -> None:
        artefacts.report(f"calibrating on {calibration.images} images")
        pt2e = import_module("torchao.quantization.pt2e.quantize_pt2e")
        with quietly(), torch.no_grad():
            exported = _export(module, example).module()
            try:
                prepared = pt2e.prepare_pt2e(exported, _open_quantiser(quantiser))
            except ValueError as error:  # a pattern of layers that torchao does not know
                raise RuntimeError(f"PT2E cannot mark what to quantise in {model}: {error}") from error
            for images in calibration_batches(calibration.load()):
                prepared(put(images))
            program = _export(pt2e.convert_pt2e(prepared), example)
        torch.export.save(program, folder / FILE_NAME)

    key = key_of(
        "pt2e quantised",
        module,
        libraries=("torchao", "timm", "torchvision"),
        sources=[__file__],
        model=model,
        quantiser=quantiser,
        layout=layout,
        image=list(example.shape[1:]),
        calibration=calibration.record(),
    )
    artefact = artefacts.cache.obtain(key, make)
    import_module("torch.ao.quantization.fx._decomposed")  # registers the operators that the file uses
    with quietly():
        return torch.export.load(artefact.folder / FILE_NAME).module(), artefact


def float_layers(program: torch.nn.Module) -> list[str]:
    """Return the convolutions and linear layers whose input or weight is not dequantised from int8."""
    assert isinstance(program, torch.fx.GraphModule)
    layers = [node for node in program.graph.nodes if _is_matrix_work(node)]
    return [node.name for node in layers if not all(_is_dequantised(argument) for argument in node.args[:2])]


def _is_matrix_work(node: torch.fx.Node) -> bool:
    name = str(node.target)
    return node.op == "call_function" and any(word in name for word in ("conv2d", "convolution", "linear", "addmm"))


def _is_dequantised(argument: Any) -> bool:
    """Return whether the argument is dequantised from int8, possibly followed by operators that only move values."""
    while isinstance(argument, torch.fx.Node) and any(
        word in str(argument.target) for word in ("view", "reshape", "flatten", "permute", "clone")
    ):
        argument = argument.args[0]
    return isinstance(argument, torch.fx.Node) and "dequantize" in str(argument.target)


def _export(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    two = torch.cat([example[:1], example[:1]])  # torch.export treats a size of 1 as a constant
    return torch.export.export(module, (two,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _open_quantiser(name: str) -> Any:
    place, kind, configuration = _QUANTISERS[name]
    room = import_module(f"{_ROOM}.{place}")
    return getattr(room, kind)().set_global(getattr(room, configuration)())


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the deprecation warnings of export and quantiser, and the messages about missing GPUs on import."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
