"""Prepared models in files: `--save` writes one, and `--load` reads it back if it belongs to the same case.

The format is the same for every engine: a zip archive with a label that identifies the model, and the files that the
engine itself writes. Load only files that you made yourself, because TorchScript and OpenVINO files are programs.
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
    """The file does not hold the requested model, or has another format version; the message names what differs."""


@dataclass(frozen=True)
class SavedModel:
    """A file that `write_saved` wrote, with its label already read.

    Attributes:
        path: the file.
        label: the format version, the parts of the case, the sha256 of the weights, and the version of torch.
    """

    path: Path
    label: Mapping[str, Any]

    def require_case(self, case: Case) -> None:
        """Check that the file belongs to this case.

        Raises:
            OtherModel: the file belongs to another case; the message names each part that differs.
        """
        wanted = _parts(case)
        self._require({key: (self.label.get(key, ""), wanted[key]) for key in wanted})

    def require_weights(self, sha256: str) -> None:
        """Check that the file was made from weights with this sha256.

        Raises:
            OtherModel: the file was made from other weights; the message gives both hashes.
        """
        self._require({"weights (--weights)": (self.label["weights_sha256"], sha256)})

    def _require(self, pairs: Mapping[str, tuple[Any, Any]]) -> None:
        differ = [f"{key} {saved}, not {wanted}" for key, (saved, wanted) in pairs.items() if saved != wanted]
        if differ:
            raise OtherModel(f"{self.path} holds {'; '.join(differ)}; ask for what it holds, or save it anew")

    def files(self) -> dict[str, bytes]:
        """Return the files that the engine saved, as a map from name to content."""
        with zipfile.ZipFile(self.path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name != _LABEL}


def read_saved(path: Path) -> SavedModel | None:
    """Read the label of a file. Returns None if the file is not a saved model but, for example, trained weights.

    Raises:
        OtherModel: the file was written by a version of visionmark with another format.
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
    """Write a prepared model to a file. The file appears complete or not at all.

    Args:
        path: the file to write.
        files: the files that the engine saves, as a map from name to content.
        case: the case that the model was prepared for.
        weights_sha256: the hash of the weights of the module that the model was made from.
    """
    label = {"format": FORMAT, **_parts(case), "weights_sha256": weights_sha256, "torch": torch.__version__}
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr(_LABEL, json.dumps(label))
        for name, content in files.items():
            archive.writestr(name, content)


def _parts(case: Case) -> dict[str, Any]:
    """Return the parts of a case that a file and the requested case must share.

    The batch size is one of them because a trace and OpenVINO's graph have a fixed batch size. The index of the device
    is not one of them.
    """
    flat = case.alone().flat()
    flat["device"] = case.device_kind
    return {key: flat[key] for key in ("model", "device", "precision", "batch", "engine", "settings")}
