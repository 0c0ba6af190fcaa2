"""From the boxes and scores of one image to its objects: a fixed number of candidates, then suppression, in fp32."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Suppression:
    """How the boxes of an image become its objects.

    Attributes:
        iou: of two boxes of one class that overlap by more than this, the one with the lower score is dropped.
        threshold: the score that an object has to exceed.
        keep: the number of objects that are kept at most.
        candidates: the number of pairs of box and class that are suppressed at most, those of the highest scores. A
            number that is fixed makes the time independent of the weights.
    """

    iou: float = 0.5
    threshold: float = 0.05
    keep: int = 100
    candidates: int = 1000


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, terms: Suppression) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes [k, 4], scores [k] and labels [k] of the objects of one image, the likeliest first.

    Args:
        boxes: the corners x0, y0, x1, y1 of each box, fp32 [m, 4], or [m, c, 4] where each class has a box of its own.
        scores: how likely each box is of each class, fp32 [m, c], without the background.
        labels: the COCO category id of each class, int64 [c].
        terms: the numbers that decide.
    """
    from torchvision.ops import batched_nms

    found, index = scores.flatten().topk(min(terms.candidates, scores.numel()))
    is_likely = found > terms.threshold
    found, index = found[is_likely], index[is_likely]
    box, which = index // scores.shape[1], index % scores.shape[1]
    chosen = boxes[box, which] if boxes.dim() == 3 else boxes[box]
    kept = batched_nms(chosen, found, labels[which], terms.iou)[: terms.keep]
    return chosen[kept], found[kept], labels[which[kept]]
