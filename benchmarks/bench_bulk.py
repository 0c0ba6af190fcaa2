"""What handing out blocks costs, and what it saves where one worker is slow: a part of `make bench-harness`.

A bulk run is compared with as many plain processes that each read a share of their own. The figures are printed and
nothing is asserted.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.peers import paired_ratio
from harness.artefacts import default_folder
from harness.cases import Case
from harness.data import ImageFile, open_data_set, write_generated_jpegs
from harness.host.cores import started_on
from harness.jobs.bulk import BulkJob, ReadyBulk, bulk_jobs
from harness.jobs.crews.hand_out import HandOut
from harness.jobs.crews.spawned import spawned_crew
from harness.jobs.stream import BuildInputs
from harness.jobs.worker import take_place
from harness.measure.bulk.blocks import Block, batches_of_block, cut_blocks
from harness.measure.bulk.predictions import PredictionFolder
from harness.progress import no_report
from models.catalog import find_spec, load_catalog

TURNS = 3
WORKERS = 2
# Where real images are: a user's own folder, if there is one.
DATA = os.environ.get("DATASET_DIR")
IMAGES = 512
CASE = Case("mobilenetv2_100", "cpu", "fp32", 8, "onnxruntime")


@dataclass(frozen=True)
class Slowed:
    """A worker that takes twice as long as it needs."""

    job: BulkJob

    def prepare(self, report: Callable[[str], None]) -> ReadySlowed:
        """Prepare the job."""
        return ReadySlowed(self.job.prepare(report))


@dataclass(frozen=True)
class ReadySlowed:
    """The same, ready."""

    ready: ReadyBulk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ready, name)

    def work(self, piece: Block) -> Any:
        """Do a block, and stand still for as long again."""
        run = self.ready.work(piece)
        sleep(run.busy_s)
        return run


def _plain(job: Any, placement: Any, files: Sequence[ImageFile], barrier: Any, times: Any) -> None:
    """Read a share of the images and answer it, without any of the harness's handing out."""
    take_place(placement)
    ready = job.prepare(no_report)
    ready.warm()
    barrier.wait()
    began_s = perf_counter()
    ready.work(Block(0, tuple(files)))
    times.put((began_s, perf_counter()))
    ready.close()


def plain_s(files: Sequence[ImageFile], jobs: Sequence[tuple[Any, Any]]) -> float:
    """Return the time of plain processes with a share each, from the first start to the last end."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(len(jobs)), context.Queue()
    processes = []
    for index, (job, placement) in enumerate(jobs):
        share = files[index * len(files) // len(jobs) : (index + 1) * len(files) // len(jobs)]
        process = context.Process(target=_plain, args=(job, placement, share, barrier, times), daemon=True)
        with started_on(placement.cores):
            process.start()
        processes.append(process)
    found = [times.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    return max(end for _, end in found) - min(begin for begin, _ in found)


def bulk_s(files: Sequence[ImageFile], jobs: Sequence[tuple[Any, Any]]) -> float:
    """Return the time of a bulk run of the same images, its files written."""
    blocks = cut_blocks(files, CASE.batch * batches_of_block(CASE.batch))
    with tempfile.TemporaryDirectory() as folder, spawned_crew(jobs) as crew:
        kept = PredictionFolder(Path(folder) / "run", blocks, {}, resumes=False)
        hand_out = HandOut(crew, no_report)
        hand_out.ready()
        done = hand_out.run(blocks, lambda piece, worker, run: kept.keep(blocks[piece.index], run.predictions))
        kept.merge()
    return done.ended_s - done.began_s


def compare(files: Sequence[ImageFile]) -> list[str]:
    """Return lines with both ratios and their intervals, of runs in turn: the speed of a shared machine drifts."""
    spec = find_spec(CASE.model, load_catalog())
    equal = bulk_jobs(BulkJob(CASE, spec, BuildInputs("random", default_folder())), WORKERS)
    (first, place), *rest = equal
    assert isinstance(first, BulkJob)
    slowed = [(Slowed(first), place), *rest]
    lines = []
    for name, jobs, bound in (("equal workers", equal, "at least 0.95"), ("one at half speed", slowed, "above 1")):
        pairs = [(plain_s(files, jobs), bulk_s(files, jobs)) for _ in range(TURNS)]
        ratio, low, high = paired_ratio(*zip(*pairs, strict=True))
        rates = ", ".join(f"{len(files) / plain:.1f} and {len(files) / bulk:.1f}" for plain, bulk in pairs)
        lines.append(
            f"{CASE}, {len(files)} images, {WORKERS} processes, {name}: bulk over static shares {ratio:.3f} "
            f"({low:.3f} to {high:.3f}; {bound}; images/s of shares and bulk: {rates})"
        )
    return lines


def main() -> None:
    """Print the comparison, on as many images as the command line says."""
    count = int(sys.argv[1]) if sys.argv[1:] else IMAGES
    print("a bulk run over plain processes with static shares", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images = open_data_set(DATA, default_folder()).images if DATA else ()
        files = list(images[:count]) or write_generated_jpegs(Path(folder), count)
        for line in compare(files):
            print("  " + line, flush=True)


if __name__ == "__main__":
    main()
