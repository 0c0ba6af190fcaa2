"""Calibration of int8 on images of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.artefacts import Calibration
from harness.artefacts.calibration import CALIBRATION_SEED, fingerprint
from harness.data import ImageFile, decode
from models.catalog import ModelSpec
from models.tasks import task_of


def data_calibration(spec: ModelSpec, data: str, files: Sequence[ImageFile]) -> Calibration:
    """Return a calibration on these images, which are decoded and transformed as the model's weights expect.

    Args:
        spec: the catalogue row of the model.
        data: the name of the data set.
        files: the images, as `split_calibration` chose them.
    """
    transform = task_of(spec).transform(spec)
    return Calibration(
        data,
        len(files),
        CALIBRATION_SEED,
        fingerprint(spec, *(file.read() for file in files)),
        lambda: torch.stack([transform(decode(file)) for file in files]),
    )
