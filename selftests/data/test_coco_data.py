"""COCO's images and annotations are read alike from a folder, a pair and TF records, and what is wrong is named."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data import ImageFile, MarkedObject, NoImages, Objects, decode, open_data_set
from harness.data.coco import val2017
from harness.data.coco.categories import COCO_CATEGORIES
from selftests.coco_sets import EMPTY, annotations_of, write_annotations, write_coco, write_records

NOWHERE = Path("nowhere")


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco")


def opened(path, **how):
    return open_data_set(str(path), NOWHERE, **how)


def contents(data):
    """Of every image: its id, its pixels and the objects in it."""
    return {
        image.name: (
            image.image_id,
            hashlib.sha256(np.asarray(decode(image)).tobytes()).hexdigest(),
            [(one.category_id, one.box, one.is_crowd) for one in data.objects.marked if one.image_id == image.image_id],
        )
        for image in data.images
    }


def test_a_folder_has_its_annotations_in_every_image_and_in_none(root):
    data, found = opened(root), annotations_of(root)
    assert data.route == "coco" and not data.is_validation_set
    assert [(image.name, image.image_id) for image in data.images] == [
        (row["file_name"], row["id"]) for row in found["images"]
    ]
    marked = contents(data)
    assert [one[2] for one in marked.values()].count([]) == 1 and not marked[data.images[EMPTY].name][2]
    assert [list(one.box) for one in data.objects.marked] == [row["bbox"] for row in found["annotations"]]
    assert sum(one.is_crowd for one in data.objects.marked) == 1
    assert list(data.objects.categories) == [1, 3, 18, 90]
    assert all(decode(image).mode == "RGB" for image in data.images)


@pytest.mark.parametrize("shards", [1, 3])
def test_records_have_the_same_boxes_to_the_last_digit(root, tmp_path, shards):
    expected = contents(opened(root))
    data = opened(write_records(root, tmp_path / "records", shards))
    assert data.route == "coco tfrecord"
    assert contents(data) == expected


def test_one_record_file_is_a_data_set_too(root, tmp_path):
    expected = contents(opened(root))
    (shard,) = write_records(root, tmp_path / "records", 1).iterdir()
    assert contents(opened(shard.rename(tmp_path / "coco_val.record"))) == expected


def test_any_pair_of_images_and_annotations_can_be_given(root, tmp_path):
    expected = contents(opened(root))
    labels = (root / "annotations" / "instances_val2017.json").rename(tmp_path / "own.json")
    pictures = (root / "val2017").rename(tmp_path / "pictures")
    assert contents(opened(pictures, labels=labels)) == expected


def test_a_url_is_read_as_a_folder(root, tmp_path):
    data = open_data_set(f"file://{root}", tmp_path / "cache")
    assert data.route == "file, coco" and contents(data) == contents(opened(root))


def test_validation_is_chosen_of_two_splits_and_an_unclear_one_is_refused(root):
    first = root / "annotations" / "instances_val2017.json"
    (root / "annotations" / "instances_train2017.json").write_text("{}")
    assert opened(root).images
    (root / "annotations" / "instances_valid.json").write_text("{}")
    with pytest.raises(NoImages, match="several annotations.*--data .* --labels"):
        opened(root)
    (root / "annotations" / "instances_valid.json").unlink()
    first.unlink()
    with pytest.raises(NoImages, match="none of validation images"):
        opened(root)


def one(found, **change):
    found["annotations"][0].update(change)


def without(found, part, key):
    del found[part][0][key]


def normalised(found):
    sizes = {row["id"]: (row["width"], row["height"]) for row in found["images"]}
    for row in found["annotations"]:
        row["bbox"] = [value / side for value, side in zip(row["bbox"], sizes[row["image_id"]] * 2, strict=True)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: one(found, category_id=12), "category that it does not list.*12 in image 139"),
        (lambda found: one(found, image_id=7), "does not list: 1, such as image 7"),
        (lambda found: one(found, bbox=[1, 2, 0, 4]), "boxes without an area: 1, such as 1, 2, 0, 4"),
        (lambda found: one(found, bbox=[1, 2, float("nan"), 4]), "boxes without an area"),
        (lambda found: one(found, bbox=[90, 2, 30, 4]), "boxes outside their image: 1, such as 90, 2, 30, 4"),
        (lambda found: one(found, bbox=["a", 2, 30, 4]), "a value of the wrong kind"),
        (normalised, "normalised boxes"),
        (lambda found: without(found, "annotations", "iscrowd"), "no 'iscrowd': without it crowds would be counted"),
        (lambda found: without(found, "annotations", "area"), "no 'area': without it no object could be told"),
        (lambda found: found.pop("categories"), "no file of COCO instances: it has no 'categories'"),
        (
            lambda found: [row.update(iscrowd=0) for row in found["annotations"]],
            "1 crowds that are not marked as such, the first in image 153",
        ),
        (lambda found: found["annotations"].clear(), "marks no object"),
        (lambda found: found["images"][1].update(id=139), "8 images and only 7 ids"),
        (lambda found: found["images"][0].update(width=97), "1 of 8 images have another size .* not 97 x 80"),
        (
            lambda found: found["images"][0].update(file_name="000000000001.jpg"),
            "1 of them are not in .*--skip-corrupt",
        ),
    ],
)
def test_annotations_that_cannot_be_right_are_refused_in_words(root, change, words):
    found = annotations_of(root)
    change(found)
    write_annotations(root, found)
    with pytest.raises(NoImages, match=words) as refusal:
        opened(root)
    assert "\n" not in str(refusal.value)


def test_absent_images_are_left_out_with_their_objects_where_that_is_asked(root):
    gone = root / "val2017" / annotations_of(root)["images"][0]["file_name"]
    gone.unlink()
    told = []
    data = open_data_set(str(root), NOWHERE, told.append, skips_absent=True)
    assert len(data.images) == 7 and any("1 of 8" in line for line in told)
    assert 139 not in {one.image_id for one in data.objects.marked} and 139 not in data.objects.sizes


def test_annotations_that_are_cut_off_are_refused(root):
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(NoImages, match="cut off or no JSON"):
        opened(root)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("image/object/is_crowd", "0 is_crowd .*or crowds would be counted as objects"),
        ("image/object/area", "0 area; each object needs all"),
        ("image/source_id", "no image/source_id"),
        ("image/width", "no image/width"),
    ],
)
def test_a_record_that_lacks_a_feature_is_refused(root, tmp_path, feature, words):
    with pytest.raises(NoImages, match=words):
        opened(write_records(root, tmp_path / "records", without=(feature,)))


def test_records_that_are_cut_off_or_missing_are_refused(root, tmp_path):
    first, second = sorted(write_records(root, tmp_path / "records").iterdir())
    whole = first.read_bytes()
    first.write_bytes(whole[:-50])
    with pytest.raises(NoImages, match=f"{first.name} is cut off"):
        opened(tmp_path / "records")
    first.write_bytes(whole)
    second.unlink()
    with pytest.raises(NoImages, match="has 1 shards, but .* says that there are 2"):
        opened(tmp_path / "records")


def test_a_record_of_another_category_or_with_boxes_in_pixels_is_refused(root, tmp_path):
    found = annotations_of(root)
    one(found, category_id=12)
    write_annotations(root, found)
    with pytest.raises(NoImages, match="12 in image 139"):
        opened(write_records(root, tmp_path / "records"))
    one(found, category_id=1)
    for row in found["images"]:
        row.update(width=1, height=1)
    write_annotations(root, found)
    with pytest.raises(NoImages, match="boxes in pixels"):
        opened(write_records(root, tmp_path / "pixels"))


def test_only_the_whole_published_set_is_recognised(monkeypatch):
    images = [ImageFile(Path(f"{number:012d}.jpg"), None, None, lambda: bytes(1000), number) for number in range(5)]
    names = "".join(f"{image.name}\n" for image in images)
    monkeypatch.setattr(val2017, "IMAGES", 5)
    monkeypatch.setattr(val2017, "OBJECTS", 2)
    monkeypatch.setattr(val2017, "ARCHIVE_BYTES", 5050)
    monkeypatch.setattr(val2017, "NAMES_SHA256", hashlib.sha256(names.encode()).hexdigest())
    single, crowd = (MarkedObject(1, 1, (0, 0, 1, 1), 1.0, is_crowd) for is_crowd in (False, True))
    whole = Objects(COCO_CATEGORIES, {}, [single, crowd])
    assert val2017.is_val2017(images, whole) and val2017.is_val2017(images[::-1], whole)
    assert not val2017.is_val2017(images[:4], whole)
    assert not val2017.is_val2017(images, replace(whole, marked=[crowd]))
    assert not val2017.is_val2017(images, replace(whole, marked=[single, single]))
    assert not val2017.is_val2017(images, replace(whole, categories={1: "person"}))
    assert not val2017.is_val2017([replace(images[0], path=Path("other.jpg")), *images[1:]], whole)
    assert not val2017.is_val2017([replace(image, opener=lambda: bytes(800)) for image in images], whole)


def test_the_categories_are_cocos():
    assert len(COCO_CATEGORIES) == 80 and COCO_CATEGORIES[1] == "person" and COCO_CATEGORIES[90] == "toothbrush"
    assert sorted(set(range(1, 91)) - set(COCO_CATEGORIES)) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert json.dumps(dict(COCO_CATEGORIES)) == json.dumps(dict(sorted(COCO_CATEGORIES.items())))
