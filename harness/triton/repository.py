"""What a server is given to serve: a model's files and configuration, written into a repository or uploaded.

A server that has a backend for ONNX files runs the file itself; any other server runs it through the Python backend.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

INPUT, OUTPUT = "images", "logits"
VERSION = "1"
LABELS = "labels.txt"
CONFIG = "config.pbtxt"
# A file in the folder of every model that is written here. A model without it is the user's, and is served as it is.
MARK = "visionmark.json"
_PYTHON_MODEL = Path(__file__).with_name("python_model.py")
# The largest number of clients that are measured, so that a batch can hold a request of each.
LEAST_MAX_BATCH = 8
# The backends that can run an ONNX file, in the order of preference.
ONNX_BACKENDS = ("onnxruntime", "python")
TORCHSCRIPT_BACKENDS = ("pytorch",)


class RepositoryError(OSError):
    """The model repository cannot be written; the message says what to do."""


@dataclass(frozen=True)
class ModelFiles:
    """A model to be served.

    Attributes:
        model: the model's name in the catalogue.
        file: `model.onnx`, or `model.pt` for TorchScript.
        size: height and width of the model's input, in pixels.
        labels: the name of each class, in the order of the classes; none for a detector.
        max_batch: the largest number of images in one execution.
        threads: the number of threads that one operator may use on the CPU.
        gpu: the index of the GPU, None for the CPU.
        accelerator: the accelerator to which ONNX Runtime hands the graph, such as `tensorrt`, None for its own
            execution.
        alias: the model's name on the server, None for that of the catalogue.
        input_type: the type of the images as Triton names it: `FP32`, or `UINT8` for a model that takes bytes.
        heads: the name and the shape for one image of each output of a detector, in their order; none for a classifier.
    """

    model: str
    file: Path
    size: tuple[int, int]
    labels: tuple[str, ...]
    max_batch: int
    threads: int
    gpu: int | None = None
    accelerator: str | None = None
    alias: str | None = None
    input_type: str = "FP32"
    heads: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def outputs(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The name and the shape for one image of each output, in their order."""
        return self.heads or ((OUTPUT, (len(self.labels),)),)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many numbers an image has in each output."""
        return tuple(math.prod(shape) for _, shape in self.outputs)

    @property
    def name(self) -> str:
        """The model's name on the server: the catalogue's name in characters that a folder and a URL can have."""
        return self.alias or re.sub(r"[^\w.-]", "_", self.model)

    def parts(self) -> list[Path]:
        """Return the graph and, where there are any, the weights beyond 2 GB that lie beside it."""
        weights = self.file.with_name(self.file.name + ".data")
        return [self.file, weights] if weights.exists() else [self.file]

    def sha256(self) -> str:
        """Return the hash of all parts, one after the other, which a served model reports of what it loaded."""
        digest = hashlib.sha256()
        for path in self.parts():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def backends(self) -> tuple[str, ...]:
        """Return the backends that can run the model's file, in the order of preference."""
        if self.file.suffix == ".pt":
            return TORCHSCRIPT_BACKENDS
        return ONNX_BACKENDS if self.accelerator is None else ONNX_BACKENDS[:1]

    def files(self, backend: str) -> dict[str, Path]:
        """Return the model's files: for each path in the model's folder, the file that belongs there."""
        graph, *weights = self.parts()
        found = {f"{VERSION}/{'model' + self.file.suffix}": graph}
        found |= {f"{VERSION}/{part.name}": part for part in weights}
        if backend == "python":
            found[f"{VERSION}/model.py"] = _PYTHON_MODEL
        return found

    def config(self, backend: str) -> dict[str, Any]:
        """Return the model's configuration, in the JSON form of Triton's protocol buffer."""
        is_torch = backend == "pytorch"  # this backend identifies inputs and outputs by position
        made: dict[str, Any] = {
            "name": self.name,
            "backend": backend,
            "max_batch_size": self.max_batch,
            "input": [
                {
                    "name": "INPUT__0" if is_torch else INPUT,
                    "data_type": f"TYPE_{self.input_type}",
                    "dims": [3, *self.size],
                }
            ],
            "output": [
                {
                    "name": f"OUTPUT__{index}" if is_torch else name,
                    "data_type": "TYPE_FP32",
                    "dims": list(shape),
                    **({"label_filename": LABELS} if self.labels else {}),
                }
                for index, (name, shape) in enumerate(self.outputs)
            ],
            "version_policy": {"specific": {"versions": [int(VERSION)]}},
            "dynamic_batching": {},  # batches take whatever has queued up, without waiting for more
            "instance_group": [
                {"count": 1, "kind": "KIND_CPU"}
                if self.gpu is None
                else {"count": 1, "kind": "KIND_GPU", "gpus": [self.gpu]}
            ],
            "parameters": self._parameters(backend),
        }
        if backend == "onnxruntime":
            made["default_model_filename"] = "model.onnx"
        if self.accelerator is not None:
            made["optimization"] = {
                "execution_accelerators": {"gpu_execution_accelerator": [{"name": self.accelerator}]}
            }
        return made

    def _parameters(self, backend: str) -> dict[str, dict[str, str]]:
        if backend == "pytorch":
            return {"INTRA_OP_THREAD_COUNT": {"string_value": str(self.threads)}}
        values = {"intra_op_thread_count": str(self.threads)}
        if backend == "python":
            values["allow_spinning"] = "0"
        return {name: {"string_value": value} for name, value in values.items()}


def named(artefact: ModelFiles, name: str) -> ModelFiles:
    """Return the same files to be served under another name."""
    return replace(artefact, alias=name)


def config_text(config: Mapping[str, Any]) -> str:
    """Return a configuration as the text of config.pbtxt.

    The text is made by Triton's own protocol buffer, which refuses unknown fields.

    Raises:
        google.protobuf.json_format.ParseError: if Triton's configuration does not have one of the fields.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = json_format.ParseDict(dict(config), model_config_pb2.ModelConfig())
    return str(text_format.MessageToString(message))


def write_model(repository: Path, artefact: ModelFiles, backend: str) -> Path:
    """Write one model's folder over what was written there before, and return the folder.

    Files are hard links where the file system allows them, since they can be large.

    Raises:
        RepositoryError: if there is no room, or no permission.
    """
    folder = repository / artefact.name
    try:
        (folder / VERSION).mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text(json.dumps({"model": artefact.model, "backend": backend}) + "\n", encoding="utf-8")
        if artefact.labels:
            (folder / LABELS).write_text("\n".join(artefact.labels) + "\n", encoding="utf-8")
        for place, source in artefact.files(backend).items():
            _place(source, folder / place)
        (folder / CONFIG).write_text(config_text(artefact.config(backend)), encoding="utf-8")
    except OSError as error:
        raise RepositoryError(
            f"the model repository {repository} cannot be written ({error.strerror}: {error.filename}); make room, or "
            f"give --model-repository DIR, a folder that can be written"
        ) from None
    return folder


def _place(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if there can be no link."""
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def is_supplied(repository: Path, name: str) -> bool:
    """Return whether the repository already has a model of that name that was not written here."""
    return (repository / name / CONFIG).exists() and not (repository / name / MARK).exists()


def upload(artefact: ModelFiles, backend: str) -> tuple[str, dict[str, bytes]]:
    """Return the configuration and the files of a load request for a server whose repository cannot be written here."""
    config = artefact.config(backend)
    for output in config["output"]:
        output.pop("label_filename", None)  # such a request has no place for the labels file
    return json.dumps(config), {f"file:{place}": path.read_bytes() for place, path in artefact.files(backend).items()}
