"""How many threads the pools of the libraries that are loaded have, in their own words."""

from __future__ import annotations

import re


def running_pools() -> dict[str, int]:
    """Return the number of threads of every OpenMP and BLAS pool in this process, by `kind library`."""
    import threadpoolctl

    found: dict[str, int] = {}
    for pool in threadpoolctl.threadpool_info():
        name = f"{pool['user_api']} {pool['prefix']}"
        found[name] = max(found.get(name, 0), pool["num_threads"])
    return found


def torch_threads() -> dict[str, int]:
    """Return the threads with which torch computes: `intra_op`, `inter_op` and, where it has one, its OpenMP pool."""
    import torch

    found = {"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()}
    pool = re.search(r"omp_get_max_threads\(\)\s*:\s*(\d+)", torch.__config__.parallel_info())
    return {**found, "openmp": int(pool[1])} if pool else found
