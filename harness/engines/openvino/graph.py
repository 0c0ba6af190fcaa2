"""From a torch module to OpenVINO's graph: converted, quantised where asked, and kept as a file for the next run."""

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
    """The module as `model.xml` in fp32, for images of any number, converted now or by an earlier run.

    Args:
        module: fp32, on the host, in evaluation mode.
        example: images, fp32 [n, 3, h, w] on the host.
        model: its name, for the key.
        artefacts: the cache.
    """
    import openvino

    def make(folder: Path) -> None:
        artefacts.report("converting")
        with warnings.catch_warnings(), torch.no_grad():  # inference tensors cannot be traced
            warnings.simplefilter("ignore")  # the conversion traces, which torch deprecates
            graph = openvino.convert_model(module, example_input=example[:1])
        openvino.save_model(graph, folder / FILE_NAME, compress_to_fp16=False)

    return artefacts.cache.obtain(_key(module, example, model), make)


def quantised(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """The module as `model.xml`, quantised to int8 by NNCF, made now or by an earlier run; see `converted`.

    Weights have a scale a channel. Ranges are those of NNCF's defaults for convolutional networks, with its fast bias
    correction.

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
        made = nncf.quantize(graph, nncf.Dataset(images), preset=nncf.QuantizationPreset.MIXED, subset_size=len(images))
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


def read_graph(artefact: Artefact, core: Any, shape: torch.Size) -> Any:
    """The kept graph, for inputs of one shape."""
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
