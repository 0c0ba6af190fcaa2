"""From a torch module to an ONNX file, by torch's dynamo exporter.

Here are the name of the input, the operator set and the check of what was written. Whoever runs the file, in this
process or behind a server, compares its answers.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from harness.artefacts import Artefact, Artefacts, Key, key_of, sources_of
from models.tasks import output_names
from models.tasks.outputs import CLASSIFIER_OUTPUTS

INPUT_NAME = "images"
BATCH_NAME = "batch"
# The newest that onnxruntime's quantiser, its CPU kernels and current TensorRT all know.
OPSET = 20
# Protocol buffers end at 2 GiB: beyond, the weights go into a file beside it.
MOST_EMBEDDED_BYTES = 2_000_000_000
FILE_NAME = "model.onnx"

LIBRARIES = ("torch", "onnx", "onnxscript", "timm", "torchvision")


class ExportError(RuntimeError):
    """The file that was written is not the model that was asked for."""


def export_onnx(module: torch.nn.Module, example: torch.Tensor, path: Path, *, dynamic_batch: bool) -> None:
    """Write the module as an ONNX file and check it.

    The input is `images` [batch, 3, h, w] in the example's dtype. The outputs [batch, …] have the names that
    `output_names` gives of the module: `logits` for a classifier. Batch norms are folded into their convolutions. The
    weights are inside the file below 2 GB, else in `<file>.data` beside it.

    Args:
        module: on the host, in evaluation mode; left as it is.
        example: images [n, 3, h, w], in the module's dtype, on the host.
        path: where to write, in a folder that exists.
        dynamic_batch: any number of images, or the example's alone.

    Raises:
        ExportError: names, shape or operator set are not those that were asked for.

    Source: torch.onnx.export with dynamo=True.
    """
    more: dict[str, Any] = {}
    if dynamic_batch:
        example = torch.cat([example[:1], example[:1]])  # torch.export takes a size of 1 for a constant
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
        node.metadata_props.clear()  # stack traces, with the paths of the machine that exported
    program.save(str(path), external_data=_weight_bytes(module) >= MOST_EMBEDDED_BYTES)
    for value in [*weights, *program.model.graph.initializers.values()]:
        value.const_value = None  # onnxscript's rules, which are global, remember the last graph that they saw
    check_onnx(path, None if dynamic_batch else len(example), tuple(example.shape[1:]), output_names(module))


def exported_onnx(module: torch.nn.Module, example: torch.Tensor, model: str, artefacts: Artefacts) -> Artefact:
    """The module as `model.onnx` for any number of images, exported now or by an earlier run.

    Args:
        module: on the host, in evaluation mode, in the type that it is exported in.
        example: images [n, 3, h, w] in that type, on the host.
        model: its name, for the key.
        artefacts: the cache.
    """

    def make(folder: Path) -> None:
        artefacts.report("exporting to ONNX")
        export_onnx(module, example, folder / FILE_NAME, dynamic_batch=True)

    return artefacts.cache.obtain(export_key(module, example, model), make)


def export_key(module: torch.nn.Module, example: torch.Tensor, model: str) -> Key:
    """What an export depends on. The number of images is no part of it."""
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
    """Have onnx's checker infer every shape of a file, and compare its ends with what was asked for.

    Args:
        path: the file.
        batch: images in one call, None for any number.
        image_shape: [3, h, w].
        outputs: their names, in order.

    Raises:
        ExportError: the file is not sound, or is another model's.
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
        # of an output only the number of images is known beforehand
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
    """The exporter and onnxscript's optimizer report each step, to loggers and as warnings."""
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
