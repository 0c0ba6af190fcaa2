"""Binding the memory of this process to one NUMA node."""

from __future__ import annotations

import ctypes
import os

_MPOL_DEFAULT, _MPOL_BIND = 0, 2
_MASK_BITS = 1024


def bind_memory(node: int | None) -> str | None:
    """Take the memory that is allocated from now on from this node, or from any node where it is None.

    The policy holds for this thread and for the threads and processes that it starts from now on.

    Returns:
        None, or the reason why the memory is not bound.

    Source: set_mempolicy(2).
    """
    try:
        set_mempolicy = ctypes.CDLL("libnuma.so.1", use_errno=True).set_mempolicy
    except OSError:
        return "libnuma is not installed"
    words = ctypes.c_ulong * (_MASK_BITS // (8 * ctypes.sizeof(ctypes.c_ulong)))
    mask = words()
    if node is not None:
        width = 8 * ctypes.sizeof(ctypes.c_ulong)
        mask[node // width] = 1 << (node % width)
    policy = _MPOL_DEFAULT if node is None else _MPOL_BIND
    if set_mempolicy(ctypes.c_int(policy), mask if node is not None else None, ctypes.c_ulong(_MASK_BITS)) == 0:
        return None
    return f"set_mempolicy: {os.strerror(ctypes.get_errno())}"
