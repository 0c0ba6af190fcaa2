"""A cache of the reference's answers to a sample, keyed by weights, preprocessing, images, versions and sources."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np

import harness.data
import harness.engines.eager
import harness.engines.torch.runner
import models
from harness.artefacts import ArtefactCache, Key, hashes_of, sources_of
from harness.cases import Case
from harness.data.sampling import files_sha256
from harness.measure import pipeline
from harness.measure.accuracy.run import Answers, Sample

REFERENCE_BATCH = 32
_FILE = "answers.npz"
_LIBRARIES = ("torch", "torchvision", "timm", "pillow", "numpy")


class HasUnreadable(Protocol):
    """Answers to files, of which some could not be read."""

    @property
    def unreadable(self) -> Sequence[str]:
        """The error of each file that could not be read."""


HasUnreadableT = TypeVar("HasUnreadableT", bound=HasUnreadable)


class _NotKept(Exception):
    """Carries answers out of the cache that are not kept in it."""

    def __init__(self, found: HasUnreadable) -> None:
        super().__init__("files could not be read")
        self.found = found


def kept_if_readable(
    cache: ArtefactCache,
    key: Key,
    compute: Callable[[], HasUnreadableT],
    arrays_of: Callable[[HasUnreadableT], Mapping[str, Any]],
    found_in: Callable[[Mapping[str, Any]], HasUnreadableT],
) -> HasUnreadableT:
    """Return answers from the cache. If they are not there, compute and keep them, unless a file could not be read.

    Perhaps it can be read the next time, and as long as it cannot the answers are computed anew.

    Args:
        cache: the cache of artefacts.
        key: the key, from `answers_key`.
        compute: computes the answers; called only if the cache does not have them.
        arrays_of: returns the arrays that are kept of answers, by name.
        found_in: returns the answers of which these arrays were kept.
    """

    def make(folder: Path) -> None:
        found = compute()
        if found.unreadable:
            raise _NotKept(found)
        np.savez(folder / _FILE, **arrays_of(found))

    try:
        artefact = cache.obtain(key, make)
    except _NotKept as unkept:
        return cast(HasUnreadableT, unkept.found)
    with np.load(artefact.folder / _FILE) as kept:
        return found_in(kept)


def reference_case(model: str) -> Case:
    """Return the reference case of a model, which is prepared if no case of the run is the reference itself."""
    return Case(model, "cpu", "fp32", REFERENCE_BATCH, "eager")


def kept_answers(
    cache: ArtefactCache, identity: dict[str, Any], sample: Sample, compute: Callable[[], Answers]
) -> Answers:
    """Return the reference's answers to the sample from the cache. If they are not there, compute and keep them.

    Answers of which some files could not be read are computed anew each time.

    Args:
        cache: the cache of artefacts.
        identity: the identity of weights and preprocessing, as in the record.
        sample: the images.
        compute: computes the answers; called only if the cache does not have them.
    """
    return kept_if_readable(
        cache,
        answers_key("reference answers", identity, sample),
        compute,
        lambda answers: {
            "top": answers.top,
            "unreadable": np.array(answers.unreadable, dtype=np.str_),
            "wall_s": answers.wall_s,
            "batches": answers.batches,
        },
        lambda kept: Answers(
            top=kept["top"],
            unreadable=tuple(str(text) for text in kept["unreadable"]),
            wall_s=float(kept["wall_s"]),
            batches=int(kept["batches"]),
        ),
    )


def answers_key(kind: str, identity: dict[str, Any], sample: Sample) -> Key:
    """Return the key of the reference's answers to a sample: all that they depend on."""
    return {
        "kind": kind,
        "weights_sha256": identity["weights_sha256"],
        "source": identity["source"],
        "preprocessing": identity["preprocessing"]["fingerprint"],
        "images_sha256": sample.sha256(),
        "files_sha256": files_sha256(sample.images),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "sources_sha256": hashes_of(sources()),
    }


def sources() -> list[Path]:
    """Return the source files that decide the answers: of models, decoding, the engine, and the way of an image."""
    folders = (models, harness.data, harness.engines.eager, harness.engines.torch.runner)
    own = [path for folder in folders for path in sources_of(str(folder.__file__))]
    return [*own, *sources_of(__file__), Path(str(pipeline.__file__))]
