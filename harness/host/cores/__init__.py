"""Owns which cores and how many threads a process uses, and how cores are shared out. Imports no numerical library."""

from harness.host.cores.affinity import started_on
from harness.host.cores.allotment import (
    Allotment,
    allot,
    asked_threads,
    current,
    give_back_cores,
    set_threads,
    take,
    threads_in,
    usable_cores,
)
from harness.host.cores.pools import running_pools, torch_threads
from harness.host.cores.quota import cpu_quota
from harness.host.cores.shares import share_out
from harness.host.cores.start import BINDING, IS_IN_TIME, START, binding_variables
from harness.host.cores.topology import PhysicalCore, parse_cores, physical_cores

__all__ = [
    "BINDING",
    "IS_IN_TIME",
    "START",
    "Allotment",
    "PhysicalCore",
    "allot",
    "asked_threads",
    "binding_variables",
    "cpu_quota",
    "current",
    "give_back_cores",
    "parse_cores",
    "physical_cores",
    "running_pools",
    "set_threads",
    "share_out",
    "started_on",
    "take",
    "threads_in",
    "torch_threads",
    "usable_cores",
]
