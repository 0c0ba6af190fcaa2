"""Conversion of a torch module to OpenVINO's graph, with optional int8 quantisation, cached as a file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, Key, key_of, sources_of

FILE_NAME = "model.xml"
LIBRARIES = ("openvino", "timm", "torchvision")


def converted(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """Return the module as `model.xml` in fp32, for any number of images, converted now or by an earlier run.

    Args:
        module: the module in fp32, on the host, in evaluation mode.
        example: images, fp32 [n, 3, h, w] on the host.
        model: the model's name, for the cache key.
        artefacts: the cache.
    """
    import openvino

    def make(folder: Path) -> None:
        artefacts.report("converting")
        with warnings.catch_warnings(), torch.no_grad():  # inference tensors cannot be traced
            warnings.simplefilter("ignore")  # the conversion uses tracing, which torch deprecates
            graph = openvino.convert_model(module, example_input=example[:1])
        openvino.save_model(graph, folder / FILE_NAME, compress_to_fp16=False)

    return artefacts.cache.obtain(_key(module, example, model), make)


def quantised(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """Return the module as `model.xml`, quantised to int8 by NNCF now or by an earlier run. See `converted`.

    Weights have one scale per channel. The ranges follow NNCF's defaults for convolutional networks, with its fast
    bias correction.

    Source: NNCF documentation, "Post-Training Quantization".
    """
    calibration = artefacts.calibration()

    def make(folder: Path) -> None:
        import nncf
        import openvino

        graph = openvino.Core().read_model(converted(module, example, model, artefacts).folder / FILE_NAME)
        graph.reshape([1, *example.shape[1:]])
        artefacts.report(f"calibrating on {calibration.images} images")
        nncf.set_log_level(logging.ERROR)
        images = [image[None].numpy() for image in calibration.load()]
        kept = [op.get_friendly_name() for op in normalisation_operators(graph)]
        made = nncf.quantize(
            graph,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False) if kept else None,
        )
        made.reshape([-1, *example.shape[1:]])
        openvino.save_model(made, folder / FILE_NAME, compress_to_fp16=False)

    key = key_of(
        "openvino quantised",
        module,
        libraries=("nncf", *LIBRARIES),
        sources=sources_of(__file__),
        converted=_key(module, example, model),
        calibration=calibration.record(),
    )
    return artefacts.cache.obtain(key, make)


def normalisation_operators(graph: Any) -> list[Any]:
    """Return the operators from an input of bytes to the first other one, which stay in fp32; none without bytes."""
    made = [op for op in graph.get_ordered_ops() if op.get_type_name() == "Parameter"]
    made = [op for op in made if op.get_output_element_type(0).get_type_name() == "u8"]
    found: list[Any] = []
    for op in graph.get_ordered_ops():
        sources = [value.get_source_output().get_node() for value in op.inputs()]
        names = {one.get_friendly_name() for one in (*made, *found)}
        others = [one for one in sources if one.get_type_name() != "Constant"]
        is_next = bool(others) and all(one.get_friendly_name() in names for one in others)
        if is_next and op.get_type_name() in ("Convert", "Multiply", "Add", "Subtract", "Divide"):
            found.append(op)
    return found


def read_graph(artefact: Artefact, core: Any, shape: torch.Size) -> Any:
    """Read the cached graph and set its input to one static shape."""
    graph = core.read_model(artefact.folder / FILE_NAME)
    graph.reshape(list(shape))
    return graph


def _key(module: torch.nn.Module, example: torch.Tensor, model: str) -> Key:
    return key_of(
        "openvino",
        module,
        libraries=LIBRARIES,
        sources=sources_of(__file__),
        model=model,
        image=list(example.shape[1:]),
    )
