"""Describes the machine and the software for which a measured number holds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch

from harness.host.cores import BINDING, current, running_pools

LIBRARIES = (
    *("torch", "torchvision", "timm", "numpy", "pillow", "pytest", "pytest-benchmark", "triton"),
    *("openvino", "nncf", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "torchao"),
    *("intel-extension-for-pytorch", "tensorrt", "tensorrt-cu13", "poptorch"),
)
# The environment variables that change what a number means.
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    *BINDING,
    "KMP_BLOCKTIME",
    "OMP_DYNAMIC",
    "OMP_THREAD_LIMIT",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "LD_PRELOAD",
    "MALLOC_CONF",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "ZE_AFFINITY_MASK",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    *("POPLAR_ENGINE_OPTIONS", "POPLAR_RUNTIME_OPTIONS", "POPLAR_SDK_ENABLED", "POPTORCH_DEFAULT_OPTIONS"),
)


class Described(Protocol):
    """The part of a device that is needed to describe it."""

    @property
    def name(self) -> str:
        """The device's name as in a case id."""

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return what the device is."""


def describe_environment(devices: Iterable[Described], root: Path) -> dict[str, Any]:
    """Return what a reader of a number has to know of the machine and its software, serialisable as JSON.

    Args:
        devices: the devices that were measured.
        root: the checkout.
    """
    return {
        "machine": {
            "node": platform.node(),
            "system": platform.platform(),
            "memory_mib": _memory_mib(),
        },
        "devices": {device.name: device.describe() for device in devices},
        "threads": {
            "intra_op": torch.get_num_threads(),
            "inter_op": torch.get_num_interop_threads(),
            **current().record(),
            "pools": running_pools(),
        },
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "fpmath_mode": fpmath_mode(),
        "libraries": {"python": platform.python_version(), **_library_versions()},
        "git": _git_state(root),
        "node_name": os.environ.get("NODE_NAME"),  # of Kubernetes: within a pod the host's name is the pod's
    }


def _memory_mib() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_state(root: Path) -> dict[str, str | bool] | None:
    """Return the commit of the checkout and whether the checkout is changed, or None if that is not known.

    An image has no `.git`: there the variable `VISIONMARK_COMMIT` says what it was built of, as `COMMIT` or
    `COMMIT-changed`.
    """
    if built_of := os.environ.get("VISIONMARK_COMMIT"):
        return {"commit": built_of.removesuffix("-changed"), "changed": built_of.endswith("-changed")}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def fpmath_mode() -> str | None:
    """Return the oneDNN floating-point math mode that the environment sets for the whole process, None if it sets none.

    The mode says whether oneDNN may compute fp32 in a shorter format.

    Source: oneDNN developer guide, "Primitive attributes: floating-point math mode".
    """
    return os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE") or os.environ.get("DNNL_DEFAULT_FPMATH_MODE")
