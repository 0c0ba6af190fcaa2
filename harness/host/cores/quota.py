"""The CPU quota of the control group in which the process runs, such as a container's `--cpus 2`."""

from __future__ import annotations

from pathlib import Path

from harness.host.cgroups import group_folders


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many CPUs' time the process may use, or None if no control group limits it.

    The quota of every group around that of the process counts, so the result is the smallest of them. Both versions of
    control groups are read.

    Args:
        root: the folder in which `proc` and `sys` lie.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst ("cpu.max") and scheduler/sched-bwc.rst.
    """
    found = [
        quota for folder in group_folders("cpu", root) for quota in (_version_2(folder), _version_1(folder)) if quota
    ]
    return min(found, default=None)


def _version_2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")  # "max 100000" or "200000 100000", in microseconds
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _version_1(folder: Path) -> float | None:
    quota_us, period_us = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    if not quota_us or not period_us or int(quota_us[0]) <= 0:  # -1: no limit
        return None
    return int(quota_us[0]) / int(period_us[0])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
