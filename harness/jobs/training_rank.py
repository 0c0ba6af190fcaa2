"""One of the processes that train together. torchrun runs it as `python -m harness.jobs.training_rank JOB.json`.

It ends with torchrun, however that one ends, and binds itself to its cores before torch is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.host.cores import Allotment, allot
from harness.host.parent_death import die_with_starter

# How long a process waits for another that stands still, before it gives up.
WAIT_AT_MOST_S = 300
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
RECORD, EARLIER = "record.json", "earlier.json"


def main(path: Path) -> None:
    """Train as one of several, and write that it is done; the first writes the record too."""
    die_with_starter(os.getppid())
    job = json.loads(path.read_text(encoding="utf-8"))
    rank, local, size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    place = job["places"][local]
    if place["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place["cpus"])
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_train)(job, rank, local, size, place)
    except Exception:  # what it says is written down for torchrun, and the launcher tells it once for all processes
        sys.exit(1)


def _train(job: dict[str, Any], rank: int, local: int, size: int, place: dict[str, Any]) -> None:
    import torch

    from harness.devices import open_device, place_of
    from harness.files import write_whole
    from harness.host.cores import take
    from harness.measure.training import Group, Recipe, train
    from harness.measure.training.checkpoint import NAME
    from models.catalog import find_spec, load_catalog

    take(allotment_of(place))
    checkpoint = Path(job["work"]["recipe"]["folder"]) / NAME
    if local == 0:
        note_earlier(Path(job["folder"]), checkpoint)
    recipe = Recipe(**job["work"]["recipe"])
    device = open_device(recipe.device)
    if not device.is_host:
        device = open_device(f"{device.kind}:{local}")
        recipe = replace(recipe, device=device.name)
    torch.distributed.init_process_group(BACKENDS[device.kind], timeout=timedelta(seconds=WAIT_AT_MOST_S))
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    group = Group(rank, size, place_of(device))
    is_ours = group.share(is_of_this_run(Path(job["folder"]), checkpoint) if group.is_first else None)
    show, tell = _shown(rank)
    found = train(
        *(recipe, find_spec(recipe.model, load_catalog()), group, show, tell),
        resumes=job["work"]["resumes"] or (restarts > 0 and is_ours),
    )
    folder = Path(job["folder"])
    if group.is_first:
        write_whole(folder / RECORD, json.dumps({**found, "restarts": restarts}))
    torch.distributed.destroy_process_group()
    write_whole(folder / f"done_{rank}", "")


def note_earlier(folder: Path, checkpoint: Path) -> None:
    """Note in the folder of the job which checkpoint there is before the first process of the run has begun.

    The first process on each machine calls this whenever it begins, and a note that is there stays.
    """
    if not (folder / EARLIER).exists():
        (folder / EARLIER).write_text(json.dumps(_mark_of(checkpoint)), encoding="utf-8")


def is_of_this_run(folder: Path, checkpoint: Path) -> bool:
    """Return whether there is a checkpoint, and it is not the one that `note_earlier` has noted."""
    earlier = json.loads((folder / EARLIER).read_text(encoding="utf-8"))
    return _mark_of(checkpoint) not in (None, earlier)


def _mark_of(path: Path) -> list[int] | None:
    """Return what tells one file at this path from another that replaces it, or None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_mtime_ns]


def allotment_of(place: dict[str, Any]) -> Allotment:
    """Return the part of the machine that a process has: its cores and threads, and the memory of its NUMA node."""
    return allot(place["cpus"], place["threads"], "--replicas", node=place["node"])


def _shown(rank: int) -> tuple[Any, Any]:
    """Return what shows the progress: the first process prints, the others are silent."""
    if rank:
        return lambda moment: None, lambda line: None
    from harness.jobs.training_line import TrainingLine

    line = TrainingLine()
    return line.show, line.tell


if __name__ == "__main__":
    main(Path(sys.argv[1]))
