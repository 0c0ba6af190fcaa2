"""Graphcore IPUs through PopTorch. A call runs a whole compiled program and returns its answer on the host.

There are no tensors, streams or events on an IPU: a call copies its input in, runs, copies its answer out and returns.
Nothing here is newer than torch 2.0.1, which is what the last SDK takes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

# Variables that change every program or let a run wait for ever, without a word in the program's own options.
REFUSED_VARIABLES = {
    "POPTORCH_IPU_MODEL": "a simulator's times mean nothing",
    "POPTORCH_DEFAULT_OPTIONS": "it sets options of every program unseen",
    "POPTORCH_CACHE_DIR": "it keeps programs beside --cache-dir, without what proves them",
    "POPART_CACHE_DIR": "it keeps programs beside --cache-dir, without what proves them",
    "POPXL_CACHE_DIR": "it keeps programs beside --cache-dir, without what proves them",
    "POPTORCH_WAIT_FOR_IPU": "a run would wait for a busy IPU for ever",
}
_MOST_IPUS = 64
_SDK = "it comes with Graphcore's Poplar SDK: make setup-poptorch WHEEL=…, then source the SDK's enable.sh"


class Ipu:
    """One IPU: any free one, or the one with the given identifier, which may be that of a group of IPUs."""

    kind = "ipu"
    is_host = False
    is_exclusive = True  # no two processes share an IPU

    def __init__(self, index: int | None = None) -> None:
        self.index = index or 0
        self.is_chosen = index is not None
        self.name = "ipu" if index is None else f"ipu:{index}"

    def available(self) -> str | None:
        """See `Device.available`. The reason quotes what PopTorch says on import."""
        if find_spec("poptorch") is None:
            return f"poptorch is not installed; {_SDK}"
        refused = refused_variable()
        if refused:
            return refused
        try:
            library: Any = import_module("poptorch")
        except (ImportError, AssertionError) as error:
            return f"poptorch cannot be imported ({' '.join(str(error).split())}); {_SDK}"
        if not library.ipuHardwareIsAvailable(1):
            return "poptorch.ipuHardwareIsAvailable() is False"
        present = _largest_group(library)
        if self.index >= present:
            return f"poptorch.ipuHardwareIsAvailable() knows {present} IPUs"
        return None

    def supports(self, precision: str) -> str | None:
        """See `Device.supports`: fp32 (32.32) and fp16 (16.16)."""
        if precision in ("fp32", "fp16"):
            return None
        if precision == "tf32":
            return "tf32 is a mode of NVIDIA matrix units: use --device cuda"
        return f"an IPU's convolutions take fp32 and fp16, and not {precision}: use --precision fp32 or fp16"

    def settings(self, precision: str) -> AbstractContextManager[None]:
        """See `Device.settings`: there are no switches of the process.

        Raises:
            ValueError: IPUs do not compute in the precision.
        """
        reason = self.supports(precision)
        if reason:
            raise ValueError(reason)
        return nullcontext()

    def short_formats(self) -> dict[str, bool]:
        """See `Device.short_formats`: the compiled graph tells the formats, and there is no switch."""
        return {}

    def conditions(self) -> dict[str, str | int | float | bool | None]:
        """See `Device.conditions`: the environment that the SDK reads, and what gc-info tells of the board."""
        told: dict[str, str | int | float | bool | None] = {
            name: os.environ.get(name) for name in ("POPLAR_ENGINE_OPTIONS", "POPLAR_RUNTIME_OPTIONS")
        }
        return {**told, **_board(self.index)}

    def synchronize(self) -> None:
        """Return at once: a call has copied its answer to the host before it returns."""

    def put(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the batch itself: only a call copies to an IPU."""
        return batch

    def reset_peak_memory(self) -> None:
        """See `Device.reset_peak_memory`: a program's memory is fixed when it is compiled."""

    def peak_memory(self) -> int | None:
        """Return None: PopTorch does not tell it."""
        return None

    def release(self) -> None:
        """See `Device.release`: a program that is destroyed has let its IPU go."""

    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Return the hardware's version, PopTorch's, the SDK's folder and what gc-info tells of the board."""
        library: Any = import_module("poptorch")
        return {
            "name": f"IPU, hardware version {library.ipuHardwareVersion()}",
            "hardware_version": library.ipuHardwareVersion(),
            "poptorch": library.__version__,
            "sdk": os.environ.get("POPLAR_SDK_ENABLED"),
            **_board(self.index),
        }


def refused_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return None, or which variable is set that would change the numbers unseen, and why it is refused."""
    for name, why in REFUSED_VARIABLES.items():
        if environment.get(name):
            return f"{name} is set, and {why}: unset it"
    return None


def _largest_group(library: Any) -> int:
    """Return the largest power of two of IPUs that there is; PopTorch has no list of them."""
    count = 1
    while 2 * count <= _MOST_IPUS and library.ipuHardwareIsAvailable(2 * count):
        count *= 2
    return count


def _board(index: int) -> dict[str, str | int | float | bool | None]:
    """Return what the SDK's gc-info tells of an IPU, by its own names; nothing where it is not in PATH."""
    program = shutil.which("gc-info")
    if program is None:
        return {}
    done = subprocess.run(
        [program, "-d", str(index), "--device-info"], capture_output=True, text=True, timeout=30, check=False
    )
    pairs = (line.partition(":") for line in done.stdout.splitlines() if ":" in line)
    return {f"board {name.strip()}": value.strip() for name, _, value in pairs}
