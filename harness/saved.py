"""A prepared model in a file (`--save`), and loaded again (`--load`) only where it is the same.

One file for every engine: a zip with a label, which says what the model is, and what the engine itself keeps. Owns the
label and its comparison. Only load files of your own: TorchScript's and OpenVINO's formats are programs.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.case import Case
from harness.devices import Device
from harness.engines import Runner, openvino
from harness.engines.eager import executed_engine
from harness.engines.torch_runner import Proof, TorchRunner, place
from harness.engines.trace import forget_scripts

_LABEL, _MODEL, _WEIGHTS = "visionmark.json", "model", "weights"
FORMAT = 1


class OtherModel(RuntimeError):
    """A file that holds something else than the case; the message names what differs."""


@dataclass(frozen=True)
class SavedModel:
    """A file that `save_model` wrote, its label read."""

    path: Path
    label: Mapping[str, Any]

    def require_case(self, case: Case) -> None:
        """Raise where it is of another case.

        Raises:
            OtherModel: naming each part that differs.
        """
        wanted = {**_parts(case)}
        self._require({key: (self.label[key], wanted[key]) for key in wanted})

    def require_weights(self, sha256: str) -> None:
        """Raise where it has other weights.

        Raises:
            OtherModel: with both hashes.
        """
        self._require({"weights (--weights)": (self.label["weights_sha256"], sha256)})

    def _require(self, pairs: Mapping[str, tuple[Any, Any]]) -> None:
        differ = [f"{key} {saved}, not {wanted}" for key, (saved, wanted) in pairs.items() if saved != wanted]
        if differ:
            raise OtherModel(f"{self.path} holds {'; '.join(differ)}; ask for what it holds, or save it anew")

    def load(self, module: torch.nn.Module, case: Case, device: Device) -> Runner:
        """Its runner. The module, with the same weights, gives the parameters that the evidence looks at."""
        with zipfile.ZipFile(self.path) as archive:
            return _LOADERS[case.engine](archive, module, case, device)


def read_saved(path: Path) -> SavedModel | None:
    """The label of a file, None where it is no saved model (but, say, trained weights).

    Raises:
        OtherModel: it was written by a newer or older visionmark.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if _LABEL not in archive.namelist():
            return None
        label = json.loads(archive.read(_LABEL))
    if label.get("format") != FORMAT:
        raise OtherModel(f"{path} has format {label.get('format')}, not {FORMAT}; save it anew")
    return SavedModel(path, label)


def cannot_save(engine: str) -> str | None:
    """None, or the reason why an engine's model is not kept in a file."""
    if engine in _LOADERS:
        return None
    kept = {
        "compile": "inductor keeps what it compiled in its own cache",
        "onnxruntime": "its ONNX file is kept in --cache-dir",
    }
    return f"{engine} saves no model: {kept.get(engine, 'nothing is known to keep')}; there are {', '.join(_LOADERS)}"


def save_model(path: Path, runner: Any, case: Case, weights_sha256: str) -> None:
    """Write a prepared model, whole or not at all.

    Args:
        path: the file.
        runner: of an engine for which `cannot_save` is None.
        case: what it is.
        weights_sha256: of the module that it was made of.
    """
    label = {"format": FORMAT, **_parts(case), "weights_sha256": weights_sha256, "torch": torch.__version__}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            archive.writestr(_LABEL, json.dumps(label))
            for name, data in _SAVERS[case.engine](runner).items():
                archive.writestr(name, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _parts(case: Case) -> dict[str, Any]:
    """What has to agree. A trace has one batch size, and so has OpenVINO's graph; a device's index does not matter."""
    flat = case.alone().flat()
    flat["device"] = case.device.partition(":")[0]
    return {key: flat[key] for key in ("model", "device", "precision", "batch", "engine")}


def _save_state(runner: Any) -> dict[str, bytes]:
    out = io.BytesIO()
    torch.save(runner._module.state_dict(), out)
    return {_MODEL: out.getvalue()}


def _save_script(runner: Any) -> dict[str, bytes]:
    out = io.BytesIO()
    torch.jit.save(runner._forward, out)
    return {_MODEL: out.getvalue()}


def _save_openvino(runner: Any) -> dict[str, bytes]:
    import openvino as library

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        library.save_model(runner._graph, path, compress_to_fp16=False)
        return {_MODEL: path.read_bytes(), _WEIGHTS: path.with_suffix(".bin").read_bytes()}


def _load_state(archive: zipfile.ZipFile, module: torch.nn.Module, case: Case, device: Device) -> Runner:
    placed = place(module, case, device)
    state = torch.load(io.BytesIO(archive.read(_MODEL)), map_location=device.torch_name, weights_only=True)
    placed.load_state_dict(state)
    return TorchRunner(placed, placed, case, device, prove=lambda events: Proof(executed_engine(placed, events)))


def _load_script(archive: zipfile.ZipFile, module: torch.nn.Module, case: Case, device: Device) -> Runner:
    placed = place(module, case, device)
    loaded = torch.jit.load(io.BytesIO(archive.read(_MODEL)), map_location=device.torch_name)
    return TorchRunner(
        loaded,
        placed,
        case,
        device,
        prove=lambda events: Proof(
            case.engine if isinstance(loaded, torch.jit.ScriptModule) else executed_engine(loaded, events),
            notes={"loaded": True},
        ),
        autocasts=case.engine == "script",  # a trace has it baked in
        on_close=forget_scripts,
    )


def _load_openvino(archive: zipfile.ZipFile, module: torch.nn.Module, case: Case, device: Device) -> Runner:
    graph = openvino._core().read_model(archive.read(_MODEL), archive.read(_WEIGHTS))
    return openvino.OpenVinoRunner(graph, case, device, "loaded", None)


_SAVERS: dict[str, Callable[[Any], dict[str, bytes]]] = {
    "eager": _save_state,
    "trace": _save_script,
    "script": _save_script,
    "openvino": _save_openvino,
}
_LOADERS: dict[str, Callable[[zipfile.ZipFile, torch.nn.Module, Case, Device], Runner]] = {
    "eager": _load_state,
    "trace": _load_script,
    "script": _load_script,
    "openvino": _load_openvino,
}
