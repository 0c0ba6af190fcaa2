"""The predictions of a bulk run on disk: a file a block, each whole or not at all, under one manifest.

    manifest.json                which run the files belong to
    predictions-00000.csv …      the answers to each block, in the order of its images
    predictions.csv              all of them in the order of the data set, written when none is missing
    logs/worker-1.log …          what each worker did

One process writes them, that which hands the blocks out, so that a block which two workers have answered is kept once.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data import ImageFile
from harness.files import write_whole
from harness.measure.bulk.blocks import Block

MANIFEST, MERGED = "manifest.json", "predictions.csv"
HEADING = ("filename", "actual", "prediction")


class OtherRun(ValueError):
    """A folder holds the predictions of another run, or of one that was broken off."""


class LostPredictions(AssertionError):
    """What lies on disk is not one prediction for each image."""


def count_kept(folder: Path) -> tuple[int, bool]:
    """Return how many blocks an earlier run has left in a folder, and whether it came to its end."""
    return len(list(folder.glob("predictions-*.csv"))), (folder / MERGED).is_file()


class PredictionFolder:
    """The folder of one bulk run."""

    def __init__(self, folder: Path, blocks: Sequence[Block], label: Mapping[str, Any], *, resumes: bool) -> None:
        """Open the folder: to go on with what is there, or to begin anew.

        Args:
            folder: the folder; it is made.
            blocks: all blocks of the data set.
            label: what has to be the same for the kept blocks to belong to this run, serialisable as JSON.
            resumes: whether the blocks that are there are kept.

        Raises:
            OtherRun: the blocks that are there are those of another run.
        """
        self.path = folder
        self._blocks = blocks
        self._label = json.loads(json.dumps(dict(label)))
        if resumes:
            self._require_same()
        else:
            shutil.rmtree(folder, ignore_errors=True)
        write_whole(folder / MANIFEST, json.dumps(self._label, indent=2) + "\n")
        (folder / "logs").mkdir(exist_ok=True)

    def _require_same(self) -> None:
        count, _ = count_kept(self.path)
        try:
            before = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if not count:
                return
            raise OtherRun(
                f"{self.path} holds {count} blocks and no {MANIFEST}; remove them, or drop --resume"
            ) from None
        except ValueError as error:
            raise OtherRun(f"{self.path / MANIFEST} cannot be read ({error}); drop --resume to begin anew") from None
        other = [key for key in {**before, **self._label} if before.get(key) != self._label.get(key)]
        if other:
            was, now = before.get(other[0]), self._label.get(other[0])
            raise OtherRun(
                f"{self.path} holds {count} blocks of another run: its {other[0]} was {was}, and is {now} now; drop "
                f"--resume to begin anew, or give another --output-dir"
            )

    def _place(self, block: Block) -> Path:
        return self.path / f"predictions-{block.index:05d}.csv"

    def kept(self) -> list[Block]:
        """Return the blocks whose file is there.

        Raises:
            LostPredictions: a file does not have the images of its block.
        """
        return [block for block in self._blocks if self._place(block).is_file() and self.read(block)]

    def keep(self, block: Block, predictions: Sequence[str]) -> None:
        """Write the predictions of a block, in the order of its images. An empty one is of an unreadable image.

        Raises:
            LostPredictions: there are more or fewer of them than images.
            OSError: the file cannot be written.
        """
        if len(predictions) != len(block.files):
            raise LostPredictions(f"{block} has {len(block.files)} images, and {len(predictions)} predictions came")
        write_whole(self._place(block), _csv(zip(map(_name_and_label, block.files), predictions, strict=True)))

    def read(self, block: Block) -> list[str]:
        """Return the predictions of a block as they are on disk.

        Raises:
            LostPredictions: the file is not there, or it does not have one line for each image of the block.
        """
        try:
            text = self._place(block).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise LostPredictions(f"the predictions of {block} are lost: {error}") from None
        rows = list(csv.reader(io.StringIO(text)))[1:]
        if [tuple(row[:2]) for row in rows] != [_name_and_label(file) for file in block.files]:
            raise LostPredictions(
                f"{self._place(block)} has {len(rows)} rows that are not, one for one, the {len(block.files)} images "
                f"of {block}; remove it and go on with --resume"
            )
        return [row[2] for row in rows]

    def merge(self) -> list[str]:
        """Write all predictions into one file, and return them in the order of the images.

        Raises:
            LostPredictions: an image has no prediction or two, or half of a file was left behind.
        """
        parts = sorted(self.path.glob(".*.part"))
        found = [prediction for block in self._blocks for prediction in self.read(block)]
        count, images = count_kept(self.path)[0], sum(len(block.files) for block in self._blocks)
        if parts or count != len(self._blocks) or len(found) != images:
            raise LostPredictions(
                f"{self.path}: {len(found)} predictions of {images} images in {count} files of {len(self._blocks)} "
                f"blocks, {len(parts)} unfinished"
            )
        files = [file for block in self._blocks for file in block.files]
        write_whole(self.path / MERGED, _csv(zip(map(_name_and_label, files), found, strict=True)))
        return found

    def log(self, worker: str, line: str) -> None:
        """Append a line to the log of a worker."""
        path = self.path / "logs" / f"{worker.replace(' ', '-')}.log"
        with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(line + "\n")


def _name_and_label(file: ImageFile) -> tuple[str, str]:
    return file.name, "" if file.label is None else str(file.label)


def _csv(rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADING)
    writer.writerows((*name_and_label, prediction) for name_and_label, prediction in rows)
    return text.getvalue()
