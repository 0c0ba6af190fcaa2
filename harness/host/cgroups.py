"""The folders of the control groups in which this process runs, of both versions of control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folder of each control group that may limit the process, the innermost of a mount first.

    Inside a container the path in /proc may be the host's while its own group is mounted at the top, so all the folders
    up to the mount count.

    Args:
        controller: what is limited, such as `cpu` or `memory`.
        root: the folder in which `proc` and `sys` lie.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        tops = (mounts / controllers, mounts / controller) if controllers else (mounts, mounts / "unified")
        group = PurePosixPath(path)
        for top in dict.fromkeys(tops):
            for inside in (group, *group.parents):
                yield top / str(inside).lstrip("/")
