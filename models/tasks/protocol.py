"""The protocol by which the harness uses a task, and the types that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from models.catalog import ModelSpec
from models.tasks.outputs import Outputs

if TYPE_CHECKING:
    from PIL import Image

# A function from a decoded RGB image of any size to a tensor, fp32 [3, h, w].
Pixels = Callable[["Image.Image"], Tensor]
# For each score, an array [n] of whether each image counts as right.
Scores = Mapping[str, npt.NDArray[np.bool_]]


class WrongAnswers(AssertionError):
    """A runner's answers are not those of the model that the case names."""


@dataclass(frozen=True)
class Agreement:
    """How near answers are to the reference's.

    Attributes:
        sqnr_db: the signal-to-quantisation-noise ratio in dB.
        top1_agreement_pct: the share of images whose likeliest answer is the same, in per cent; of a detector, of the
            likeliest boxes.
        heads_sqnr_db: the ratio of each output of a model with several; the worst of them is `sqnr_db`.
        heads_gain: for each of those outputs, how many times as large as the reference's it is; see
            `models.tasks.gain`.
        matched_pct: of answers that are compared as sets, the share that the reference has too, in per cent; else None.
    """

    sqnr_db: float
    top1_agreement_pct: float
    heads_sqnr_db: Mapping[str, float] = field(default_factory=dict)
    heads_gain: Mapping[str, float] = field(default_factory=dict)
    matched_pct: float | None = None


class Task(Protocol):
    """What one kind of model does with images: how they get in, and how answers are read, compared and scored."""

    def transform(self, spec: ModelSpec) -> Pixels:
        """Return the evaluation transform that the model's weights were trained for."""

    def generated(self, spec: ModelSpec, count: int, seed: int = 0) -> Tensor:
        """Return generated images that a right model answers differently, fp32 [count, 3, h, w], normalised."""

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None = None) -> list[Any]:
        """Return what a user gets for each image, such as the index of its class.

        Args:
            outputs: the outputs of a batch.
            sizes: the height and width of each original image in pixels; None for those of the input.
        """

    def packed(self, answers: Sequence[Any]) -> npt.NDArray[Any]:
        """Return answers of `decode` as one array [n, …] whose rows are of one size, as LoadGen logs them."""

    def compare(self, reference: Outputs, found: Outputs) -> Agreement:
        """Return how near answers are to the reference's answers to the same images.

        Raises:
            WrongAnswers: if they cannot be compared: they have another shape or are not finite, or the reference cannot
                tell one image from another.
        """

    def describe_wrong(self, reference: Outputs, found: Outputs) -> str:
        """Return what kind of wrong these answers are, where that can be told."""

    def findings(self, reference: Outputs, found: Outputs) -> dict[str, Any]:
        """Return what else the record says of answers that agree, JSON-serialisable.

        Raises:
            WrongAnswers: they are nothing that could be measured.
        """

    def labels(self, outputs: Outputs) -> int:
        """Return how many labels the model tells apart."""

    def ranked(self, outputs: Outputs) -> npt.NDArray[np.int16]:
        """Return what is kept of each image's answer to score it: label indices [n, k], the likeliest first."""

    def score(self, ranked: npt.NDArray[np.int16], labels: Sequence[int] | npt.NDArray[np.int16]) -> Scores:
        """Return whether each image's answer is right, for every score that the task has."""
