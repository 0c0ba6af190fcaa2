"""Static int8 quantisation of an ONNX file by pairs of QuantizeLinear and DequantizeLinear, which a runtime fuses.

Activations are uint8, and weights are int8 with one scale per channel. The ranges are the minimum and maximum over the
calibration images.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, key_of, sources_of
from harness.artefacts.calibration import calibration_batches
from harness.engines.onnx.export import FILE_NAME, INPUT_NAME, export_key, exported_onnx
from harness.engines.onnx.normalisation import normalisation_nodes

_MATRIX_OPERATORS = ["Conv", "Gemm", "MatMul"]
_SYMMETRIC: dict[str, Any] = {
    "op_types_to_quantize": _MATRIX_OPERATORS,
    "extra_options": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": True,  # the weights stay in fp32 before a pair, which TensorRT folds
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": _MATRIX_OPERATORS,
    },
}


def quantised_onnx(
    module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts, *, symmetric: bool = False
) -> Artefact:
    """Return the module as a quantised `model.onnx` for any number of images, made now or by an earlier run.

    Args:
        module: the module in fp32, on the host, in evaluation mode.
        example: images, fp32 [n, 3, h, w] on the host.
        model: the model's name, for the cache key.
        artefacts: the cache and the calibration images.
        symmetric: see `quantise_onnx`.
    """
    calibration = artefacts.calibration()

    def make(folder: Path) -> None:
        source = exported_onnx(module, example, model, artefacts)
        artefacts.report(f"calibrating on {calibration.images} images")
        quantise_onnx(source.folder / FILE_NAME, folder / FILE_NAME, calibration.load(), symmetric=symmetric)

    key = key_of(
        "onnx quantised",
        module,
        libraries=("onnx", "onnxruntime"),
        sources=sources_of(__file__),
        export=export_key(module, example, model),
        calibration=calibration.record(),
        symmetric=symmetric,
    )
    return artefacts.cache.obtain(key, make)


def quantise_onnx(source: Path, target: Path, images: torch.Tensor, *, symmetric: bool = False) -> None:
    """Write a quantised copy of an ONNX file.

    Activations are uint8, because x86 has instructions for products of uint8 and int8; with int8 activations half of
    the convolutions stay in fp32 on onnxruntime's CPU provider.

    Args:
        source: the fp32 file, for any number of images.
        target: the file to write.
        images: the calibration images, [n, 3, h, w] in the type of the file's input, fp32 or uint8.
        symmetric: whether to write the form that TensorRT takes: int8 activations around zero, pairs only at the
            inputs and weights of convolutions and matrix products, and biases in fp32.

    Source: onnxruntime documentation, "Quantize ONNX models", QDQ format; its example for TensorRT; TensorRT
    documentation, "Explicit quantization".
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser logs advice to the root logger
    try:
        with tempfile.TemporaryDirectory() as folder:
            ready = Path(folder) / "ready.onnx"
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(target),
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_normalisations(ready),
                calibrate_method=CalibrationMethod.MinMax,
                **(_SYMMETRIC if symmetric else {}),
            )
    finally:
        logging.getLogger().setLevel(before)


def _normalisations(path: Path) -> list[str]:
    """Return the nodes of normalisation layers and of the normalisation of bytes, which are excluded.

    The quantiser fails where two of the former share a scale, and the latter has to stay in fp32. They are no
    convolutions or matrix products, so nothing is lost.
    """
    import onnx

    graph = onnx.load(str(path)).graph
    layers = [node.name for node in graph.node if node.op_type.endswith("Normalization")]
    return layers + [node.name for node in normalisation_nodes(graph)]


class _Reader:
    """Gives the quantiser one batch at a time. The quantiser's own base class only declares `get_next`."""

    def __init__(self, images: torch.Tensor) -> None:
        self._batches = iter(calibration_batches(images))

    def get_next(self) -> dict[str, Any] | None:
        images = next(self._batches, None)
        return None if images is None else {INPUT_NAME: images.numpy()}
