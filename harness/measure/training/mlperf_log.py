"""MLPerf's log of a training run, written by MLPerf's own package."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT, write_whole
from harness.measure.training.recipe import Recipe

# The key of the step at which a run goes on; MLPerf has none for it.
WENT_ON = "went_on_at_step"


class MlperfLog:
    """The lines of one run in one file. Nothing is printed."""

    def __init__(self, path: Path | None, at_step: int = 0) -> None:
        """Write to this file, or nowhere.

        Args:
            path: the file.
            at_step: the step at which a run goes on whose log the file holds; 0 begins a new log.
        """
        from mlperf_logging.mllog import constants
        from mlperf_logging.mllog.mllog import MLLogger

        self._keys: Any = constants
        self._log = logging.Logger(f"visionmark.mlperf.{id(self)}", logging.INFO)
        self._at_step = at_step if path is not None and path.is_file() else 0
        if path is not None and self._at_step:
            _drop_stop(path, self._keys.RUN_STOP)
        self._handler: logging.Handler = (
            logging.NullHandler() if path is None else logging.FileHandler(path, "a" if self._at_step else "w", "utf-8")
        )
        self._log.addHandler(self._handler)
        self._mllog: Any = MLLogger(logger=self._log, default_namespace="", root_dir=re.escape(str(CHECKOUT)))

    def begin(self, recipe: Recipe, global_batch: int, train_images: int, eval_images: int, began_s: float) -> None:
        """Write what the run is, and that its initialisation began at this time, in seconds since the epoch.

        A log that goes on has all that, and gets the step at which it does.
        """
        key, event = self._keys, self._mllog.event
        if self._at_step:
            event(WENT_ON, self._at_step)
            return
        event(key.CACHE_CLEAR, True, time_ms=int(1e3 * began_s))
        self._mllog.start(key.INIT_START, time_ms=int(1e3 * began_s))
        for name, value in (
            (key.SUBMISSION_ORG, "visionmark"),
            (key.SUBMISSION_PLATFORM, recipe.device),
            (key.SUBMISSION_DIVISION, "open"),
            (key.SUBMISSION_STATUS, "onprem"),
            (key.SUBMISSION_BENCHMARK, "resnet"),
            (key.SEED, recipe.seed),
            (key.GLOBAL_BATCH_SIZE, global_batch),
            (key.TRAIN_SAMPLES, train_images),
            (key.EVAL_SAMPLES, eval_images),
            (key.OPT_NAME, "sgd"),
            (key.GRADIENT_ACCUMULATION_STEPS, 1),
        ):
            event(name, value)

    def run_start(self) -> None:
        """Write that the clock runs, which it does already in a log that goes on."""
        if self._at_step:
            return
        self._mllog.end(self._keys.INIT_STOP)
        self._mllog.start(self._keys.RUN_START)

    def epoch(self, number: int, *, begins: bool) -> None:
        """Write that an epoch, counted from 1, begins or ends."""
        write = self._mllog.start if begins else self._mllog.end
        name = self._keys.EPOCH_START if begins else self._keys.EPOCH_STOP
        write(name, metadata={self._keys.EPOCH_NUM: number})

    def evaluation(self, number: int, share: float | None) -> None:
        """Write that the evaluation after an epoch begins, or with a share of right images, how it ended."""
        where = {self._keys.EPOCH_NUM: number}
        if share is None:
            self._mllog.start(self._keys.EVAL_START, metadata=where)
            return
        self._mllog.event(self._keys.EVAL_ACCURACY, share, metadata=where)
        self._mllog.end(self._keys.EVAL_STOP, metadata=where)

    def run_stop(self, status: str) -> None:
        """Write how the run ended, `success` or `aborted`, and close the file."""
        self._mllog.end(self._keys.RUN_STOP, metadata={self._keys.STATUS: status})
        self._handler.close()


def _drop_stop(path: Path, key: str) -> None:
    """Take the line off a log that says that the run has stopped: it goes on, and stops once."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    write_whole(path, "".join(line for line in lines if f'"key": "{key}"' not in line))
