"""A bulk run as a measurement: blocks are handed out, kept, merged and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from harness.measure.bulk.blocks import Block
from harness.measure.bulk.classify import BlockRun
from harness.measure.bulk.predictions import LostPredictions, PredictionFolder
from harness.measure.bulk.record import Bulk, bulk_of
from harness.measure.bulk.shifts import HandedOut, Piece, Turn
from harness.measure.clock import TimedRounds
from harness.progress import ReportShare


class ReadyCrew(Protocol):
    """Workers that are ready to be handed blocks."""

    def run(self, pieces: Sequence[Piece], keep: Callable[[Piece, str, Any], None]) -> HandedOut:
        """Have every piece done once; `keep` is called with each, its worker and its result."""

    def finish(self) -> None:
        """Have every worker check that it still is what its label says."""


def measure_bulk(
    crew: ReadyCrew,
    blocks: Sequence[Block],
    folder: PredictionFolder,
    about: Mapping[str, Any],
    timed: TimedRounds,
    report: ReportShare,
) -> Bulk | None:
    """Have all blocks answered that are not kept yet, and return the record; None if timing is switched off.

    Args:
        crew: the workers.
        blocks: all blocks of the data set.
        folder: where the predictions are kept.
        about: see `bulk_of`.
        timed: the clock, for which the whole run is one round.
        report: called with the progress.

    Raises:
        JobFailed: a worker failed, or none is left.
        Contradiction, WrongAnswers: a worker is not what its label says.
        LostPredictions: an image has no prediction, or two.
        OSError: predictions cannot be written; those that were written stay.
    """
    is_kept = {block.index for block in folder.kept()}
    todo = [block for block in blocks if block.index not in is_kept]
    total = sum(block.size for block in todo)
    by_index = {block.index: block for block in todo}
    done = 0
    found: list[HandedOut] = []

    def keep(piece: Piece, worker: str, run: BlockRun) -> None:
        nonlocal done
        folder.keep(by_index[piece.index], run.predictions)
        folder.log(worker, _line(piece, run))
        for error in run.unreadable:
            folder.log(worker, f"  unreadable: {error}")
        done += piece.size
        report(done, total, worker)

    report(0, total, "")

    def turns() -> list[Turn]:
        return [turn for shift in found[0].shifts for turn in shift.turns]

    timed(
        "bulk",
        lambda: found.append(crew.run(todo, keep)),
        lambda elapsed_s: None if found else (),
        lambda: [max(1, sum(turn.run.answered for turn in turns())) / about["batch"]],
    )
    if not found:
        return None
    crew.finish()
    if sorted(turn.index for turn in turns()) != sorted(by_index):
        raise LostPredictions(f"{len(turns())} results came for {len(by_index)} blocks")
    files = [file for block in blocks for file in block.files]
    bulk = bulk_of(found[0], files, folder.merge(), {**about, "folder": str(folder.path)})
    for one in bulk.each:
        folder.log(one["name"], f"{one['images']} images, {one['images_per_second']:.2f} images/s of the common window")
    for loss in bulk.lost:
        folder.log(loss["worker"], f"lost: it {loss['reason']}")
    return bulk


def _line(piece: Piece, run: BlockRun) -> str:
    rate = len(run.predictions) / run.busy_s
    decode_s = run.busy_s - run.copy_s - run.model_s
    shares = ", ".join(
        f"{name} {100 * part_s / run.busy_s:.0f}%"
        for name, part_s in (("decode", decode_s), ("copy", run.copy_s), ("model", run.model_s))
    )
    now = datetime.now().isoformat(timespec="milliseconds")
    return f"{now} {piece}: {len(run.predictions)} images in {run.busy_s:.3f} s, {rate:.2f} images/s ({shares})"
