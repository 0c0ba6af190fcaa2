"""What has to be the same on every machine of a cluster: the libraries that a number depends on, and this suite itself.

It loads none of these libraries, because every machine of a cluster is asked before anything is prepared there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping

from harness.files import CHECKOUT

LIBRARIES = (
    *("torch", "torchvision", "timm", "numpy", "pillow", "ray", "onnx", "onnxruntime", "openvino", "torchao", "nncf"),
    *("onnxruntime-gpu", "intel-extension-for-pytorch", "tensorrt-cu13"),
)
SOURCES = ("models", "harness")
NAMED = 4


class DifferentVersions(RuntimeError):
    """Machines that are to do one thing together have different versions of something."""


def versions_here() -> dict[str, str]:
    """Return the versions of this machine, and a digest of the suite's own sources."""
    found = {"python": platform.python_version(), "visionmark": _digest_of_sources()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((CHECKOUT / package).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def require_same(here: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse machines that have other versions than this one.

    Args:
        here: the versions of this machine.
        nodes: the versions of the others, by their names.

    Raises:
        DifferentVersions: some are different; the message names the machines and what differs.
    """
    different = []
    for node, versions in nodes.items():
        other = [name for name in {**here, **versions} if here.get(name) != versions.get(name)]
        told = [f"{name} {versions.get(name, 'absent')} (here {here.get(name, 'absent')})" for name in other[:NAMED]]
        if other:
            different.append(f"{node} has {', '.join(told)}" + (", …" if len(other) > NAMED else ""))
    if different:
        raise DifferentVersions(
            f"the nodes do not have the same versions: {'; '.join(different)}; install the same ones there, from the "
            f"same checkout"
        )
