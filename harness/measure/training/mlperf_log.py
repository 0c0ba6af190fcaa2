"""MLPerf's log of a training run, written by MLPerf's own package."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT
from harness.measure.training.recipe import Recipe


class MlperfLog:
    """The lines of one run in one file. Nothing is printed."""

    def __init__(self, path: Path | None) -> None:
        """Write to this file, or nowhere."""
        from mlperf_logging.mllog import constants
        from mlperf_logging.mllog.mllog import MLLogger

        self._keys: Any = constants
        self._log = logging.Logger(f"visionmark.mlperf.{id(self)}", logging.INFO)
        self._handler: logging.Handler = (
            logging.NullHandler() if path is None else logging.FileHandler(path, "w", "utf-8")
        )
        self._log.addHandler(self._handler)
        self._mllog: Any = MLLogger(logger=self._log, default_namespace="", root_dir=re.escape(str(CHECKOUT)))

    def begin(self, recipe: Recipe, global_batch: int, train_images: int, eval_images: int, began_s: float) -> None:
        """Write what the run is, and that its initialisation began at this time, in seconds since the epoch."""
        key, event = self._keys, self._mllog.event
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
        """Write that the clock runs."""
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
