"""Prepares what a case needs on a server: the exported file, the requests to send and the answers to expect."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from harness.artefacts import ArtefactCache, KeptWeights, key_of, sources_of
from harness.cases import WHOLE, Case
from harness.data import IMAGENET_CLASSES, class_indices
from harness.devices import open_device
from harness.engines.onnx import export as onnx_export
from harness.engines.onnxruntime import PROVIDERS
from harness.progress import ReportPhase
from harness.proof import References, case_images, case_module, takes_bytes
from harness.proof.preparation import identity_of
from harness.triton.answers import rows_of_outputs
from harness.triton.clients import ImageBatch
from harness.triton.repository import LEAST_MAX_BATCH, OUTPUT, ModelFiles
from models.build import build_module
from models.catalog import ModelSpec
from models.detectors import TwoStage
from models.tasks.classify import Logits

# The number of different images that are sent. There are more than clients, so that no two clients ask for the same
# image at the same time.
IMAGES = 12
# For each engine of a case, the file that is served.
FILES = {"onnxruntime": onnx_export.FILE_NAME, "tensorrt": onnx_export.FILE_NAME, "trace": "model.pt"}


def unsupported(case: Case) -> str | None:
    """Return the reason why this case cannot be served, or None if it can."""
    kind = case.device_kind
    if case.engine not in FILES:
        return f"served models run on {' or '.join(FILES)}, not on {case.engine}"
    if kind not in PROVIDERS:
        return f"Triton has no backend here for {kind}"
    if case.engine == "tensorrt" and kind != "cuda":
        return "TensorRT is for CUDA devices"
    if case.precision != "fp32":
        return f"served models are exported in fp32, not in {case.precision}"
    if WHOLE in case.settings:
        return "a served detector answers with its raw heads, whose answers are proven per image: drop --whole-model"
    return open_device(case.device).available()


class NotServable(ValueError):
    """A model cannot be served; the message says why."""


@dataclass(frozen=True)
class Exported:
    """What is prepared once for a case, whichever server serves it.

    Attributes:
        case: the case; its batch is the number of images per request.
        spec: the catalogue row.
        artefact: the files that the server is given.
        batches: different requests, to be sent in rotation, each [batch, 3, h, w], fp32 or uint8.
        reference: the model's own logits, computed in process for the images of all batches, in their order; of a
            detector the numbers of all its outputs, a row an image.
        export_s: seconds that it took to export the model, or to check what an earlier run exported.
        identity: the weights and the preprocessing.
        module: the module that is served, in fp32 on the host, for computing further answers in process.
    """

    case: Case
    spec: ModelSpec
    artefact: ModelFiles
    batches: list[ImageBatch]
    reference: Logits
    export_s: float
    identity: dict[str, Any]
    module: torch.nn.Module


def export_case(
    case: Case,
    spec: ModelSpec,
    weights: str | Path,
    cache: ArtefactCache,
    threads: int,
    report: ReportPhase,
) -> Exported:
    """Export the case's model and compute its answers in process.

    Raises:
        NotServable: if the model is no single network.
    """
    report("loading")
    built = build_module(spec, weights, kept=KeptWeights(cache))
    if isinstance(built.module, TwoStage):
        raise NotServable(
            f"{spec.name} is two networks with its proposals between them, and a server runs one file: serve a "
            f"detector of one, such as ssd_mobilenet_v1_075"
        )
    count = max(IMAGES, 2 * case.batch)
    count = -(-count // case.batch) * case.batch
    report("answering in process")
    outputs = References(spec, weights).outputs(count, built.module)
    reference = rows_of_outputs(outputs)
    heads = tuple((name, array.shape[1:]) for name, array in zip(outputs.names, outputs, strict=True))
    is_classifier = [name for name, _ in heads] == [OUTPUT]
    images = case_images(case, spec, count)
    module = case_module(case, spec, built.module)
    report("exporting")
    began = perf_counter()
    file = export(module, spec, images[: max(2, case.batch)], FILES[case.engine], cache)
    export_s = perf_counter() - began
    device = open_device(case.device)
    artefact = ModelFiles(
        model=spec.name,
        file=file,
        size=spec.input.size,
        labels=labels_of(reference.shape[1]) if is_classifier else (),
        heads=() if is_classifier else heads,
        max_batch=max(LEAST_MAX_BATCH, case.batch),
        threads=threads,
        gpu=None if device.is_host else device.index,
        accelerator="tensorrt" if case.engine == "tensorrt" else None,
        input_type="UINT8" if takes_bytes(case) else "FP32",
    )
    batches = [chunk.numpy() for chunk in images.split(case.batch)]
    return Exported(case, spec, artefact, batches, reference, export_s, identity_of(spec, built), module)


def export(module: torch.nn.Module, spec: ModelSpec, example: torch.Tensor, name: str, cache: ArtefactCache) -> Path:
    """Return the path of the module's file for any batch size: ONNX, or TorchScript if `name` is `model.pt`.

    A file that an earlier run exported is used again.
    """
    is_onnx = name == onnx_export.FILE_NAME
    key = key_of(
        "onnx" if is_onnx else "torchscript",
        module,
        libraries=onnx_export.LIBRARIES if is_onnx else (),
        sources=sources_of(onnx_export.__file__) if is_onnx else [__file__],
        size=list(spec.input.size),
        dynamic_batch=True,
    )

    def make(folder: Path) -> None:
        if is_onnx:
            onnx_export.export_onnx(module, example, folder / name, dynamic_batch=True)
            return
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecated upstream; Triton's pytorch backend runs nothing else
            torch.jit.freeze(torch.jit.trace(module, example, check_trace=False)).save(str(folder / name))

    return cache.obtain(key, make).folder / name


def labels_of(classes: int) -> tuple[str, ...]:
    """Return the names of the classes, which are the wnids if the classes are ImageNet's."""
    return tuple(class_indices()) if classes == IMAGENET_CLASSES else tuple(f"class_{n}" for n in range(classes))
