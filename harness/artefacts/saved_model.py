"""A prepared model in a file (`--save`), which is loaded again (`--load`) only where it is of the same case.

One file for every engine: a zip with a label that says what the model is, and what the engine itself keeps. Only load
files of your own, for TorchScript's and OpenVINO's formats are programs.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.cases import Case
from harness.files import whole_file

_LABEL = "visionmark.json"
FORMAT = 1


class OtherModel(RuntimeError):
    """A file that holds something else than the case; the message names what differs."""


@dataclass(frozen=True)
class SavedModel:
    """A file that `write_saved` wrote, its label read.

    Attributes:
        path: the file.
        label: format, parts of the case, hash of the weights, version of torch.
    """

    path: Path
    label: Mapping[str, Any]

    def require_case(self, case: Case) -> None:
        """Raise where the file is of another case.

        Raises:
            OtherModel: naming each part that differs.
        """
        wanted = _parts(case)
        self._require({key: (self.label.get(key, ""), wanted[key]) for key in wanted})

    def require_weights(self, sha256: str) -> None:
        """Raise where the file has other weights.

        Raises:
            OtherModel: with both hashes.
        """
        self._require({"weights (--weights)": (self.label["weights_sha256"], sha256)})

    def _require(self, pairs: Mapping[str, tuple[Any, Any]]) -> None:
        differ = [f"{key} {saved}, not {wanted}" for key, (saved, wanted) in pairs.items() if saved != wanted]
        if differ:
            raise OtherModel(f"{self.path} holds {'; '.join(differ)}; ask for what it holds, or save it anew")

    def files(self) -> dict[str, bytes]:
        """What the engine kept: name to content."""
        with zipfile.ZipFile(self.path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != _LABEL}


def read_saved(path: Path) -> SavedModel | None:
    """The label of a file, None where the file is no saved model but, say, trained weights.

    Raises:
        OtherModel: a newer or older visionmark wrote it.
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


def write_saved(path: Path, files: Mapping[str, bytes], case: Case, weights_sha256: str) -> None:
    """Write a prepared model, whole or not at all.

    Args:
        path: the file.
        files: what the engine keeps: name to content.
        case: what the model is.
        weights_sha256: of the module that it was made of.
    """
    label = {"format": FORMAT, **_parts(case), "weights_sha256": weights_sha256, "torch": torch.__version__}
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr(_LABEL, json.dumps(label))
        for name, content in files.items():
            archive.writestr(name, content)


def _parts(case: Case) -> dict[str, Any]:
    """What has to agree. A trace has one batch size, and so has OpenVINO's graph; a device's index does not matter."""
    flat = case.alone().flat()
    flat["device"] = case.device_kind
    return {key: flat[key] for key in ("model", "device", "precision", "batch", "engine", "settings")}
