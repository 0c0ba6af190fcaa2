"""Export of a detector with decoding and suppression inside it to an ONNX file, by torch's older exporter.

The dynamo exporter refuses torchvision's suppression, because its operators depend on how many boxes there are. The
older one traces. The file takes as many images as the example has: each has operators of its own.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from harness.artefacts import Artefact, Artefacts, key_of, sources_of
from harness.engines.onnx.export import FILE_NAME, INPUT_NAME, LIBRARIES, OPSET, check_onnx
from models.tasks import output_names


def whole_onnx(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """Return the module as `model.onnx` for as many images as the example has, exported now or by an earlier run.

    Args:
        module: the module on the host, in fp32, in evaluation mode.
        example: images, fp32 [n, 3, h, w], or uint8 where the module takes bytes.
        model: the model's name, for the cache key.
        artefacts: the cache.

    Source: torch.onnx.export with dynamo=False.
    """

    def make(folder: Path) -> None:
        artefacts.report("exporting to ONNX")
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter is deprecated, and tells of every constant that it traces
            torch.onnx.export(
                module,
                (example,),
                str(folder / FILE_NAME),
                dynamo=False,
                input_names=[INPUT_NAME],
                output_names=list(output_names(module)),
                opset_version=OPSET,
            )
        check_onnx(folder / FILE_NAME, len(example), tuple(example.shape[1:]), output_names(module))

    key = key_of(
        "onnx whole",
        module,
        libraries=LIBRARIES,
        sources=sources_of(__file__),
        model=model,
        outputs=output_names(module),
        dtype=str(example.dtype),
        images=list(example.shape),
    )
    return artefacts.cache.obtain(key, make)
