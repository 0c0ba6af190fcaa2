"""COCO's evaluation of detections, by faster-coco-eval: AP and AR over everything, by size and by category."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data import Objects
from models.tasks.detections import Detections

# COCO's evaluation takes no more detections of an image than this.
MOST_DETECTIONS = 100
_MOST = (1, 10, MOST_DETECTIONS)


def evaluator() -> str:
    """Return the name and version of the library that evaluates."""
    return f"faster-coco-eval {importlib.metadata.version('faster-coco-eval')}"


@dataclass(frozen=True)
class CocoScores:
    """The numbers of COCO's evaluation, in per cent; None where no object is of that kind.

    Attributes:
        ap_pct: average precision, the mean over the overlaps 0.50, 0.55 … 0.95 and over the categories.
        ap50_pct: average precision at an overlap (intersection over union) of 0.50.
        ap75_pct: the same at 0.75.
        ap_small_pct: average precision of objects below 32 x 32 pixels, by the area of their outline.
        ap_medium_pct: of those from there to 96 x 96 pixels.
        ap_large_pct: of those above.
        ar1_pct: average recall with one detection an image.
        ar10_pct: with ten.
        ar100_pct: with a hundred.
        ar_small_pct: average recall of small objects, with a hundred detections an image.
        ar_medium_pct: of medium ones.
        ar_large_pct: of large ones.
        ap_by_category_pct: average precision of each category that has objects, by its name.
    """

    ap_pct: float | None
    ap50_pct: float | None
    ap75_pct: float | None
    ap_small_pct: float | None
    ap_medium_pct: float | None
    ap_large_pct: float | None
    ar1_pct: float | None
    ar10_pct: float | None
    ar100_pct: float | None
    ar_small_pct: float | None
    ar_medium_pct: float | None
    ar_large_pct: float | None
    ap_by_category_pct: Mapping[str, float]


def evaluate(objects: Objects, found: Mapping[int, Detections]) -> CocoScores:
    """Return the numbers of COCO's evaluation of what was found, over the images in which something was looked for.

    Args:
        objects: what the annotations mark.
        found: the detections in each image that was run, by the image's id. Images without an entry do not count;
            images without objects do.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    run = COCOeval_faster(
        COCO(annotations_json(objects, found)),
        COCO({**_listed(objects, found), "annotations": _with_ids(results_json(found))}),
        iouType="bbox",
    )
    run.params.imgIds = sorted(found)
    run.run()
    numbers = [None if value < 0 else 100 * float(value) for value in run.all_stats[:12]]
    precision = run.eval["precision"][:, :, :, 0, -1]  # overlaps, recalls, categories; all sizes, 100 detections
    of_category = {
        objects.categories[int(category)]: 100 * float(precision[:, :, at].mean())
        for at, category in enumerate(run.params.catIds)
        if (precision[:, :, at] >= 0).all()
    }
    return CocoScores(*numbers, of_category)  # type: ignore[arg-type, call-arg]


def annotations_json(objects: Objects, images: Mapping[int, Any]) -> dict[str, Any]:
    """Return the annotations of some images in COCO's format."""
    marked = [
        {
            "id": number,
            "image_id": one.image_id,
            "category_id": one.category_id,
            "bbox": list(one.box),
            "area": one.area,
            "iscrowd": int(one.is_crowd),
        }
        for number, one in enumerate((one for one in objects.marked if one.image_id in images), start=1)
    ]
    return {**_listed(objects, images), "annotations": marked}


def results_json(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """Return detections in COCO's format of results, with boxes as left edge, upper edge, width and height."""
    results = []
    for image_id, detections in found.items():
        boxes = detections.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        columns = zip(boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
        results += [
            {"image_id": image_id, "category_id": label, "bbox": box, "score": score} for box, score, label in columns
        ]
    return results


def _with_ids(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return results as the annotations that they are to the library, which `loadRes` would make of them."""
    return [
        {**one, "id": number, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0}
        for number, one in enumerate(results, start=1)
    ]


def _listed(objects: Objects, images: Mapping[int, Any]) -> dict[str, Any]:
    sizes = {image_id: objects.sizes[image_id] for image_id in images}
    return {
        "images": [{"id": image_id, "width": width, "height": height} for image_id, (width, height) in sizes.items()],
        "categories": [{"id": number, "name": name} for number, name in objects.categories.items()],
    }
