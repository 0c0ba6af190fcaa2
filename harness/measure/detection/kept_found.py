"""A cache of what the reference finds in a sample, with the key of the answers of classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.artefacts import ArtefactCache
from harness.measure.accuracy.kept_answers import answers_key, kept_if_readable
from harness.measure.accuracy.run import Sample
from harness.measure.detection.run import Found
from models.tasks.detections import Detections


def kept_found(cache: ArtefactCache, identity: dict[str, Any], sample: Sample, compute: Callable[[], Found]) -> Found:
    """Return what the reference finds in the sample from the cache. If it is not there, compute and keep it.

    It is computed anew each time where some files could not be read.

    Args:
        cache: the cache of artefacts.
        identity: the identity of weights and preprocessing, as in the record.
        sample: the images.
        compute: computes it; called only if the cache does not have it.
    """
    return kept_if_readable(
        cache, answers_key("reference detections", identity, sample), compute, _arrays_of, _found_in
    )


def _arrays_of(found: Found) -> dict[str, Any]:
    detections = list(found.by_image.values())
    return {
        "ids": np.array(list(found.by_image), np.int64),
        "counts": np.array([len(one) for one in detections], np.int64),
        "boxes": np.concatenate([one.boxes for one in detections]),
        "scores": np.concatenate([one.scores for one in detections]),
        "labels": np.concatenate([one.labels for one in detections]),
        "unreadable": np.array(found.unreadable, dtype=np.str_),
        "wall_s": found.wall_s,
        "batches": found.batches,
    }


def _found_in(kept: Mapping[str, Any]) -> Found:
    ends = np.cumsum(kept["counts"])[:-1]
    parts = [np.split(kept[name], ends) for name in ("boxes", "scores", "labels")]
    return Found(
        {int(number): Detections(*one) for number, *one in zip(kept["ids"], *parts, strict=True)},
        tuple(str(text) for text in kept["unreadable"]),
        float(kept["wall_s"]),
        int(kept["batches"]),
    )
