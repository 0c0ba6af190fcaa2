"""COCO data to test with: a small generated set, and the same images and annotations as TF records.

    python -m selftests.coco_sets COCO_FOLDER RECORDS_FOLDER

writes a COCO folder as `coco_val.record-?????-of-?????` in the layout of TensorFlow's object detection.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tfrecord.writer import TFRecordWriter

from harness.data import MarkedObject, Objects
from harness.data.coco.categories import COCO_CATEGORIES
from models.tasks.detections import Detections

CATEGORIES = ((1, "person"), (3, "car"), (18, "dog"), (90, "toothbrush"))
IDS = sorted(COCO_CATEGORIES)
# Some of them lie before or behind a hole in the ids, so that a shift of ids is another one than of their order.
BESIDE_HOLES = (1, 3, 7, 11, 18, 27, 44, 65, 67, 82)
WIDTH, HEIGHT = 640, 426
CROWD, EMPTY, GREY, CMYK = 2, 4, 1, 3  # which of the images


def write_coco(root: Path, images: int = 8, seed: int = 0) -> Path:
    """A COCO folder: pictures of noise, some objects in each, a crowd, one without objects, one grey, one CMYK."""
    rng = np.random.default_rng(seed)
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    listed, annotations = [], []
    for number in range(images):
        image_id, width, height = 139 + 7 * number, 96 + 16 * (number % 3), 80 + 8 * (number % 2)
        mode = {GREY: "L", CMYK: "CMYK"}.get(number, "RGB")
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        name = f"{image_id:012d}.jpg"
        Image.fromarray(pixels).convert(mode).save(root / "val2017" / name)
        listed.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for _ in range(0 if number == EMPTY else 3 + number % 3):
            w, h = (round(float(value), 2) for value in rng.uniform(12, 40, 2))
            x, y = round(float(rng.uniform(0, width - w)), 2), round(float(rng.uniform(0, height - h)), 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[int(rng.integers(0, 3))][0],
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.7,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x, y + h]],
                }
            )
    at = [one["id"] - 1 for one in annotations if one["image_id"] == 139 + 7 * CROWD][0]
    annotations[at].update(iscrowd=1, segmentation={"counts": [7, 9], "size": [4, 4]})
    categories = [{"id": number, "name": name} for number, name in CATEGORIES]
    write_annotations(root, {"images": listed, "annotations": annotations, "categories": categories})
    return root


def annotations_of(root: Path) -> dict:
    """What the file of annotations of a COCO folder holds."""
    return json.loads((root / "annotations" / "instances_val2017.json").read_text())


def write_annotations(root: Path, found: dict) -> None:
    """Write the file of annotations of a COCO folder."""
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(found))


def write_records(root: Path, folder: Path, shards: int = 2, without: tuple[str, ...] = ()) -> Path:
    """Write a COCO folder as shards of TF records, without some of the features."""
    found = annotations_of(root)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        writer = TFRecordWriter(str(folder / f"coco_val.record-{shard:05d}-of-{shards:05d}"))
        for image in found["images"][shard::shards]:
            marked = [one for one in found["annotations"] if one["image_id"] == image["id"]]
            writer.write({name: value for name, value in example(root, image, marked).items() if name not in without})
        writer.close()
    return folder


def example(root: Path, image: dict, marked: list[dict]) -> dict:
    """The features of one record."""
    width, height = image["width"], image["height"]
    boxes = [one["bbox"] for one in marked]
    return {
        "image/encoded": ((root / "val2017" / image["file_name"]).read_bytes(), "byte"),
        "image/source_id": (str(image["id"]).encode(), "byte"),
        "image/filename": (image["file_name"].encode(), "byte"),
        "image/height": (height, "int"),
        "image/width": (width, "int"),
        "image/object/bbox/xmin": ([x / width for x, _, _, _ in boxes], "float"),
        "image/object/bbox/xmax": ([(x + w) / width for x, _, w, _ in boxes], "float"),
        "image/object/bbox/ymin": ([y / height for _, y, _, _ in boxes], "float"),
        "image/object/bbox/ymax": ([(y + h) / height for _, y, _, h in boxes], "float"),
        "image/object/class/label": ([one["category_id"] for one in marked], "int"),
        "image/object/is_crowd": ([one["iscrowd"] for one in marked], "int"),
        "image/object/area": ([one["area"] for one in marked], "float"),
    }


def marked_images(images=40, seed=0):
    """Objects of ten categories in images, with crowds, and every tenth image without any."""
    rng = np.random.default_rng(seed)
    marked, sizes = [], {}
    for number in range(images):
        image_id = 100 + 3 * number
        sizes[image_id] = (WIDTH, HEIGHT) if number % 2 else (HEIGHT, WIDTH)
        for index in range(0 if number % 10 == 9 else int(rng.integers(2, 9))):
            w, h = rng.uniform(15, 200, 2)
            x, y = rng.uniform(0, sizes[image_id][0] - w), rng.uniform(0, sizes[image_id][1] - h)
            category = int(rng.choice(BESIDE_HOLES))
            marked.append(MarkedObject(image_id, category, (x, y, w, h), 0.7 * w * h, number % 7 == 0 and index == 0))
    return Objects(COCO_CATEGORIES, sizes, marked)


def results_of(objects, seed=0, jitter=0.08, wrong=0.15, noise=20):
    """What a good detector finds: a box near each object, mostly with its category, and unlikely ones anywhere."""
    rng = np.random.default_rng(seed)
    found = {}
    marked = {image_id: [] for image_id in objects.sizes}
    for one in objects.marked:
        marked[one.image_id].append(one)
    for image_id, (width, height) in objects.sizes.items():
        rows = []
        for one in marked[image_id]:
            x, y, w, h = one.box
            dx, dy, dw, dh = rng.normal(0, jitter, 4) * (w, h, w, h)
            label = one.category_id if rng.random() > wrong else int(rng.choice(IDS))
            rows.append((x + dx, y + dy, x + w + dw, y + h + dh, rng.uniform(0.3, 1), label))
        for _ in range(noise):
            x, y = rng.uniform(0, width - 50), rng.uniform(0, height - 50)
            rows.append((x, y, x + rng.uniform(10, 50), y + rng.uniform(10, 50), rng.uniform(0, 0.3), rng.choice(IDS)))
        table = np.array(sorted(rows, key=lambda row: -row[4])).reshape(-1, 6)
        found[image_id] = Detections(
            table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64)
        )
    return found


if __name__ == "__main__":
    write_records(Path(sys.argv[1]), Path(sys.argv[2]))
