"""The task of detection: raw heads, compared one by one by signal to quantisation noise, and objects made of them.

The outputs are those of the network up to its heads. What follows is here, once for every engine, in fp32: decoding
boxes, a fixed number of candidates, and suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.catalog import ModelSpec
from models.preprocess import generated_images, normalise, placed_size
from models.tasks.classify import LEAST_SPREAD, spread, sqnr_db
from models.tasks.decoding import detections, detector_for, filling, in_pixels, likeliest
from models.tasks.detections import Detections
from models.tasks.gain import by_coordinate, gain
from models.tasks.matched import matched_pct as matched_pct
from models.tasks.outputs import Outputs
from models.tasks.protocol import Agreement, Pixels, Scores, WrongAnswers
from models.tasks.whole import compare_sets, describe_wrong_sets, is_whole, objects_in

if TYPE_CHECKING:
    from PIL import Image


# Outputs that are no answers of their own: where the second stage of a detector looked.
PLACES = "proposals"
# The number of rows, such as anchors, of each image whose likeliest class is compared: those of the highest scores.
COMPARED_ROWS = 100
# The sizes of generated images, height and width, for inputs that keep the aspect.
_SHAPES = ((480, 640), (640, 480), (427, 640))
_NOT_SCORED = "the answers of a detector are boxes, which tests_accuracy/test_coco.py scores: name a classifier here"


@dataclass(frozen=True)
class Detect:
    """The task of one detector. See `models.tasks.Task`."""

    spec: ModelSpec

    def transform(self, spec: ModelSpec) -> Pixels:
        """See `Task.transform`. The image fills the input, or keeps its aspect and lies at the top left of it."""
        from PIL import Image as images

        method = images.Resampling[spec.input.interpolation.upper()]

        def to_input(image: Image.Image) -> Tensor:
            height, width = placed_size(spec.input, image.height, image.width)
            resized = np.array(image.resize((width, height), method), np.uint8)
            return on_canvas(normalise(torch.from_numpy(resized).permute(2, 0, 1), spec.input), spec)

        return to_input

    def generated(self, spec: ModelSpec, count: int, seed: int = 0) -> Tensor:
        """See `Task.generated`. Where the aspect is kept, the images have different aspects."""
        full = normalise(generated_images(count, spec.input.size, seed), spec.input)
        if spec.input.crop_mode != "pad":
            return full
        cut = [(image, placed_size(spec.input, *_SHAPES[at % len(_SHAPES)])) for at, image in enumerate(full)]
        return torch.stack([on_canvas(image[:, :height, :width], spec) for image, (height, width) in cut])

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None = None) -> list[Detections]:
        """See `Task.decode`. An answer is the objects of an image."""
        if is_whole(outputs):
            return in_pixels(self.spec, objects_in(outputs), sizes)
        return detections(self.spec, outputs, sizes)

    def _likeliest(self, outputs: Outputs) -> list[Detections]:
        """Return the objects of each image, as many as this project keeps at most."""
        return likeliest(self.decode(outputs), detector_for(self.spec).suppression.keep)

    def packed(self, answers: Sequence[Detections]) -> npt.NDArray[Any]:
        """See `Task.packed`. A row is fp32 [objects, 6]: label, score and corners; rows of zeros fill up the number."""
        keep = detector_for(self.spec).suppression.keep
        rows = np.zeros((len(answers), keep, 6), np.float32)
        for row, one in zip(rows, likeliest(answers, keep), strict=True):
            row[: len(one), 0], row[: len(one), 1], row[: len(one), 2:] = one.labels, one.scores, one.boxes
        return rows

    def labels(self, outputs: Outputs) -> int:
        """See `Task.labels`. The background is none."""
        return len(detector_for(self.spec).labels)

    def compare(self, reference: Outputs, found: Outputs) -> Agreement:
        """See `Task.compare`. Every head is compared by itself, and the worst one counts.

        Box codes and logits are different quantities: an engine may return one right and the other not. Objects are
        compared as sets, also with those that the reference's heads give.
        """
        if is_whole(found):
            return compare_sets(self._likeliest(reference), self._likeliest(found))
        by_head, gains = {}, {}
        for name in _heads(reference):
            try:
                by_head[name] = sqnr_db(reference[name], found[name])
            except (WrongAnswers, KeyError) as wrong:
                raise WrongAnswers(f"head {name}: {wrong}") from None
            gains[name] = gain(by_coordinate(name, reference[name]), by_coordinate(name, found[name]))
        return Agreement(min(by_head.values()), self._same_label_pct(reference, found), by_head, gains)

    def _same_label_pct(self, reference: Outputs, found: Outputs) -> float:
        """Return the share of the likeliest rows of the reference whose likeliest label is the same, in per cent."""
        candidates, whole = detector_for(self.spec).candidates, filling(self.spec, len(reference))
        same = []
        with torch.inference_mode():
            for (_, wanted), (_, scores) in zip(candidates(reference, whole), candidates(found, whole), strict=True):
                rows = wanted.amax(1).topk(min(COMPARED_ROWS, len(wanted))).indices
                same.append(wanted[rows].argmax(1) == scores[rows].argmax(1))
        return 100 * float(torch.cat(same).float().mean())

    def describe_wrong(self, reference: Outputs, found: Outputs) -> str:
        """See `Task.describe_wrong`. It names the worst head, and tells other images' answers from everything else."""
        if is_whole(found):
            return describe_wrong_sets(self._likeliest(reference), self._likeliest(found))
        by_head = self.compare(reference, found).heads_sqnr_db
        worst = min(by_head, key=lambda name: by_head[name])
        told = ", ".join(f"{name} {db:.1f} dB" for name, db in by_head.items())
        flat = [outputs[worst].reshape(len(reference), -1) for outputs in (reference, found)]
        nearest = [int(np.linalg.norm(flat[0] - answer, axis=1).argmin()) for answer in flat[1]]
        swapped = sum(at != index for index, at in enumerate(nearest))
        if not found[worst].any():
            return f"{told}: the head {worst} gives nothing but zeros"
        if spread(flat[1]) < LEAST_SPREAD / 10:
            return f"{told}: every image gets the same answer"
        if swapped and len(set(nearest)) == len(reference):
            return f"{told}: {swapped} of {len(reference)} images get another image's answer: outputs are permuted"
        return f"{told}: the head {worst} resembles no image's: other weights or images, or too short a format"

    def ranked(self, outputs: Outputs) -> npt.NDArray[np.int16]:
        """See `Task.ranked`: there is no ranking of boxes."""
        raise WrongAnswers(_NOT_SCORED)

    def score(self, ranked: npt.NDArray[np.int16], labels: Sequence[int] | npt.NDArray[np.int16]) -> Scores:
        """See `Task.score`: boxes are not scored by labels."""
        raise WrongAnswers(_NOT_SCORED)

    def findings(self, reference: Outputs, found: Outputs) -> dict[str, Any]:
        """See `Task.findings`. The objects of each image, and how many of them the reference finds too.

        Raises:
            WrongAnswers: no image has an object, or all have the same ones.
        """
        own, wanted = self._likeliest(found), self._likeliest(reference)
        counts = [len(one) for one in own]
        if not any(counts):
            raise WrongAnswers("no object is found in any image: suppression would be timed on nothing")
        if len(own) > 1 and all(_is_same(one, own[0]) for one in own[1:]):
            raise WrongAnswers("every image gets the same objects")
        return {
            "detections_per_image": counts,
            "matched_pct": matched_pct(wanted, own),
            **self._proposed(found),
        }

    def _proposed(self, found: Outputs) -> dict[str, Any]:
        """Return how many proposals of each image have an area; those without fill up the fixed number.

        Raises:
            WrongAnswers: there is none in any image.
        """
        proposals = detector_for(self.spec).proposals
        if proposals is None or is_whole(found):
            return {}
        boxes = proposals(found, filling(self.spec, len(found)))
        counts = [int(count) for count in (boxes[..., 2:] > boxes[..., :2]).all(dim=2).sum(dim=1)]
        if not any(counts):
            raise WrongAnswers("nothing is proposed in any image: the second stage would be timed on nothing")
        return {"proposals_per_image": counts}


def on_canvas(image: Tensor, spec: ModelSpec) -> Tensor:
    """Return an image [3, h, w] at the top left of the input's size, with zeros below and right of it."""
    height, width = spec.input.size
    return torch.nn.functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))


def _heads(outputs: Outputs) -> list[str]:
    return [name for name in outputs.names if name != PLACES]


def _is_same(one: Detections, other: Detections) -> bool:
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)
