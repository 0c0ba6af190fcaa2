"""Export of a torch module to an ONNX file by torch's dynamo exporter.

This module sets the name of the input and the operator set, and checks the structure of the written file. The engine or
server that runs the file compares its answers with the reference.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, Key, key_of, sources_of
from harness.cases import PRECISIONS
from models.tasks import output_names
from models.tasks.outputs import CLASSIFIER_OUTPUTS

INPUT_NAME = "images"
BATCH_NAME = "batch"
# The newest operator set that onnxruntime's quantiser, its CPU kernels and current TensorRT all support.
OPSET = 20
# Protocol buffers are limited to 2 GiB: larger weights go into a second file beside the model.
MOST_EMBEDDED_BYTES = 2_000_000_000
FILE_NAME = "model.onnx"

LIBRARIES = ("torch", "onnx", "onnxscript", "timm", "torchvision")


def import_exporter(precision: str) -> None:
    """Import what an export needs, and what a quantisation of the file needs where the precision has one."""
    for library in ("onnx", "onnxscript", "torch.export._trace", "torch.onnx._internal.exporter._core"):
        import_module(library)
    if PRECISIONS[precision].calibrated:
        import_module("onnxruntime.quantization")


class ExportError(RuntimeError):
    """The file that was written is not a valid model of the requested form."""


def export_onnx(module: torch.nn.Module, example: torch.Tensor, path: Path, *, dynamic_batch: bool) -> None:
    """Write the module as an ONNX file and check it.

    The input is `images` [batch, 3, h, w] in the example's dtype. The outputs [batch, …] have the names that
    `output_names` returns for the module, which is `logits` for a classifier. Batch norms are folded into their
    convolutions. Weights below 2 GB are inside the file, larger ones in `<file>.data` beside it.

    Args:
        module: the module on the host, in evaluation mode; it is not changed.
        example: images [n, 3, h, w], in the module's dtype, on the host.
        path: the file to write, in a folder that exists.
        dynamic_batch: whether the file takes any number of images, or only that of the example.

    Raises:
        ExportError: the names, the shapes or the operator set are not the requested ones.

    Source: torch.onnx.export with dynamo=True.
    """
    more: dict[str, Any] = {}
    if dynamic_batch:
        example = torch.cat([example[:1], example[:1]])  # torch.export treats a size of 1 as a constant
        more["dynamic_shapes"] = ({0: torch.export.Dim(BATCH_NAME)},)
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=list(output_names(module)),
            opset_version=OPSET,
            verbose=False,
            optimize=False,
            **more,
        )
        assert program is not None
        weights = list(program.model.graph.initializers.values())
        program.optimize()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, which contain paths of this machine
    program.save(str(path), external_data=_weight_bytes(module) >= MOST_EMBEDDED_BYTES)
    for value in [*weights, *program.model.graph.initializers.values()]:
        value.const_value = None  # onnxscript's global rules keep the last graph alive
    check_onnx(path, None if dynamic_batch else len(example), tuple(example.shape[1:]), output_names(module))


def exported_onnx(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """Return the module as `model.onnx` for any number of images, exported now or by an earlier run.

    Args:
        module: the module on the host, in evaluation mode, in the dtype of the export.
        example: images [n, 3, h, w] in that dtype, on the host.
        model: the model's name, for the cache key.
        artefacts: the cache.
    """

    def make(folder: Path) -> None:
        artefacts.report("exporting to ONNX")
        export_onnx(module, example, folder / FILE_NAME, dynamic_batch=True)

    return artefacts.cache.obtain(export_key(module, example, model), make)


def export_key(module: torch.nn.Module, example: torch.Tensor, model: str) -> Key:
    """Return the cache key of an export. The number of images is not part of it."""
    return key_of(
        "onnx",
        module,
        libraries=LIBRARIES,
        sources=sources_of(__file__),
        model=model,
        outputs=output_names(module),
        dtype=str(example.dtype),
        image=list(example.shape[1:]),
    )


def check_onnx(
    path: Path, batch: int | None, image_shape: tuple[int, ...], outputs: tuple[str, ...] = CLASSIFIER_OUTPUTS
) -> None:
    """Check a file with onnx's checker, which infers all shapes, and compare inputs and outputs with what is expected.

    Args:
        path: the file.
        batch: the number of images in one call, None for any number.
        image_shape: the shape of one image, [3, h, w].
        outputs: the names of the outputs, in order.

    Raises:
        ExportError: the file is not valid, or its inputs, outputs or operator set are not the expected ones.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is no sound ONNX file: {error}") from None
    model = onnx.load(str(path), load_external_data=False)
    any_batch = [batch or BATCH_NAME]
    wanted = (
        [(INPUT_NAME, [*any_batch, *image_shape])],
        [(name, any_batch) for name in outputs],
    )
    for found, asked in zip((model.graph.input, model.graph.output), wanted, strict=True):
        ends = [(end.name, [d.dim_param or d.dim_value for d in end.type.tensor_type.shape.dim]) for end in found]
        # only the first dimension of an output, the number of images, is known beforehand
        heads = [(name, shape[: len(one[1])]) for (name, shape), one in zip(ends, asked, strict=False)]
        if len(ends) != len(asked) or heads != asked:
            raise ExportError(f"{path.name} has {ends} where {asked} was asked for")
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != OPSET:
        raise ExportError(f"{path.name} is of operator set {opsets.get('')}, not {OPSET}")


def _weight_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter and onnxscript's optimizer, which report each step to loggers and as warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
