"""The cores that this process was given, read before any numerical library is loaded.

An OpenMP runtime that one of the variables in `BINDING` tells to bind its threads binds the main thread as soon as it
is loaded, which `import torch` does. Who asks for the affinity after that takes one core for all of them. Therefore the
package `harness` imports this module first, and this module imports nothing but the standard library.
"""

from __future__ import annotations

import os
import sys

# The variables by which an OpenMP runtime binds threads to cores.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_HW_SUBSET")

# The logical CPUs on which this process may run.
START: frozenset[int] = frozenset(
    os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
)
# Whether they were read in time: before torch, which loads an OpenMP runtime.
IS_IN_TIME = "torch" not in sys.modules


def binding_variables() -> list[str]:
    """Return the variables of the environment that tell an OpenMP runtime to bind threads, as `NAME=value`."""
    off = {"OMP_PROC_BIND": ("false",), "KMP_AFFINITY": ("none", "disabled")}
    return [
        f"{name}={os.environ[name]}"
        for name in BINDING
        if os.environ.get(name) and os.environ[name].lower() not in off.get(name, ())
    ]
