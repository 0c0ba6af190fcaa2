"""Folders of images: all that lies there is evaluated or named, and of several splits only the one for validation."""

import os

import pytest
from PIL import Image
from timm.data.readers.img_extensions import IMG_EXTENSIONS as TIMM_SUFFIXES
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS as TORCHVISION_SUFFIXES

from harness.data import NoImages, class_indices, open_data_set
from harness.data.imagenet.folders import SUFFIXES, find_images
from selftests.inside import TINY, run_here

WNIDS = sorted(class_indices())[:4]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 46807\n"


def write_set(root, suffix=".JPEG", each=2, wnids=WNIDS):
    """`each` images in each of four classes; the paths."""
    paths = []
    for wnid in wnids:
        (root / wnid).mkdir(parents=True)
        for number in range(each):
            path = root / wnid / f"{root.name}_{wnid}_{number}{suffix}"
            Image.new("RGB", (8, 8), (20 * number, 9, 9)).save(path)
            paths.append(path)
    return paths


def agrees_with_torchvision(root):
    """The same files and the same classes, by name."""
    other = ImageFolder(root)
    expected = {(path, sorted(class_indices()).index(other.classes[target])) for path, target in other.samples}
    assert {(str(file.path), file.label) for file in find_images(root)} == expected
    return len(expected)


@pytest.mark.parametrize("suffix", sorted({".jpg", *TORCHVISION_SUFFIXES, *TIMM_SUFFIXES}))
def test_every_suffix_of_the_libraries_is_an_image_in_any_case(tmp_path, suffix):
    assert suffix in SUFFIXES
    for wnid, written in zip(WNIDS, (suffix, suffix.upper(), suffix.title(), ".JPEG"), strict=True):
        write_set(tmp_path, written, wnids=[wnid])
    assert agrees_with_torchvision(tmp_path) == 8


def test_linked_class_folders_and_files_are_followed(tmp_path):
    root, store = tmp_path / "set", tmp_path / "store"
    write_set(root)
    store.mkdir()
    (root / WNIDS[0]).rename(store / "a")
    (root / WNIDS[0]).symlink_to(store / "a")
    file = next((root / WNIDS[1]).iterdir())
    file.rename(store / file.name)
    file.symlink_to(store / file.name)
    (root / WNIDS[2] / "up").symlink_to(root)  # a circle
    (store / "a" / "up").symlink_to(root)  # and one through a linked folder
    assert len(find_images(root)) == 8


def test_images_below_a_class_folder_are_of_that_class(tmp_path):
    for path in write_set(tmp_path):
        (path.parent / "more").mkdir(exist_ok=True)
        path.rename(path.parent / "more" / path.name)
    assert agrees_with_torchvision(tmp_path) == 8


def test_a_folder_of_one_class_is_that_class(tmp_path):
    write_set(tmp_path)
    assert [file.label for file in find_images(tmp_path / WNIDS[3])] == [3, 3]


def test_links_to_nothing_and_pointers_are_named_with_their_count(tmp_path):
    paths = write_set(tmp_path)
    for path in paths[:3]:
        path.unlink()
        path.symlink_to("../.git/annex/objects/gone")
    with pytest.raises(NoImages, match=rf"3 of 8 files are links.*{paths[0].name}.*git annex get"):
        find_images(tmp_path)
    for path in paths[:3]:
        path.unlink()
        path.write_text(POINTER, encoding="utf-8")
    with pytest.raises(NoImages, match=rf"3 of 8 images are pointers.*{paths[0].name}.*git lfs pull"):
        find_images(tmp_path)


def test_a_class_folder_that_is_a_link_to_nothing_is_named(tmp_path):
    write_set(tmp_path, wnids=WNIDS[1:])
    (tmp_path / WNIDS[0]).symlink_to("gone")
    with pytest.raises(NoImages, match=f"1 of 7 files are links.*{WNIDS[0]}"):
        find_images(tmp_path)


def test_what_is_left_out_is_counted_and_named(tmp_path):
    write_set(tmp_path)
    (tmp_path / WNIDS[0] / "a.npy").write_bytes(b"")
    (tmp_path / WNIDS[0] / "bare").write_bytes(b"")
    told = []
    assert len(open_data_set(str(tmp_path), tmp_path / "cache", told.append).images) == 8
    assert len(told) == 1
    assert "8 images; 2 files are left out" in told[0]
    assert "a.npy" in told[0]
    assert "bare" in told[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    write_set(tmp_path)
    (tmp_path / WNIDS[0]).chmod(0)
    try:
        with pytest.raises(NoImages, match=f"{WNIDS[0]} cannot be read: Permission denied"):
            find_images(tmp_path)
    finally:
        (tmp_path / WNIDS[0]).chmod(0o700)


@pytest.mark.parametrize(
    "name", ["val", "validation", "valid", "eval", "Val", "VALIDATION", "ILSVRC2012_img_val", "val2012", "a/b/val"]
)
def test_of_several_splits_the_validation_split_is_evaluated(tmp_path, name):
    write_set(tmp_path / name)
    for other in ("train", "test"):
        write_set((tmp_path / name).parent / other, each=5)
    data = open_data_set(str(tmp_path), tmp_path / "cache")
    assert len(data.images) == 8
    assert all(tmp_path / name in image.path.parents for image in data.images)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "test"), "none for validation: test, train; name the one.*--data"),
        (("train",), "none for validation: train"),
        (("val", "validation"), "several validation splits: val, validation"),
        (("val", "."), "beside it, 4 folders of classes"),
        (("a/val", "b/val"), "several validation splits: a/val, b/val"),
    ],
)
def test_where_it_is_not_clear_which_split_is_meant_it_is_refused(tmp_path, names, words):
    for name in names:
        write_set(tmp_path / name)
    with pytest.raises(NoImages, match=words):
        open_data_set(str(tmp_path), tmp_path / "cache")


def test_a_split_that_is_a_link_to_another_is_one_split(tmp_path):
    write_set(tmp_path / "validation")
    (tmp_path / "val").symlink_to("validation")
    assert len(find_images(tmp_path)) == 8


def test_a_split_that_is_named_is_read(tmp_path):
    write_set(tmp_path / "train")
    assert len(find_images(tmp_path / "train")) == 8


def test_an_unclear_split_is_a_usage_error_of_the_run(tmp_path):
    for name in ("train", "test"):
        write_set(tmp_path / name)
    outcome = run_here("tests_perf/test_end_to_end.py", "--collect-only", "--model", TINY, "--data", str(tmp_path))
    assert outcome.code == 4, outcome.text
    assert "none for validation" in outcome.text


LABELLED = {
    "LOC_val_solution": "ImageId,PredictionString\nb,n01443537 85 1 499 272 n01443537 1 2 3 4\na,n01440764 1 2 3 4\n",
    "names with suffixes, no heading": "a.png,n01440764\nb.png,n01443537\n",
    "indices": "name,class\na,0\nb,1\nanother,999\n",
}


@pytest.fixture
def flat(tmp_path):
    """Two images in a folder that is no wnid."""
    (tmp_path / "flat").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / "flat" / f"{name}.png")
    return tmp_path / "flat"


@pytest.mark.parametrize("text", LABELLED.values(), ids=LABELLED)
def test_a_flat_folder_has_the_labels_of_a_table(flat, tmp_path, text):
    table = tmp_path / "labels.csv"
    table.write_text(text, encoding="utf-8-sig")
    images = open_data_set(str(flat), tmp_path / "cache", labels=table).images
    assert [(image.name, image.label) for image in images] == [("a.png", 0), ("b.png", 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,0\n", "no row for 1 of 2 images: b.png"),
        ("a,0\nb,zebra\n", "row 2: 'b,zebra' names no wnid"),
        ("a,0\nb,1000\n", "row 2: 'b,1000'"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_leaves_an_image_without_a_class_is_refused(flat, tmp_path, text, words):
    table = tmp_path / "labels.csv"
    if text is not None:
        table.write_text(text, encoding="utf-8")
    with pytest.raises(NoImages, match=words):
        open_data_set(str(flat), tmp_path / "cache", labels=table)


def test_a_row_is_of_one_image_and_has_one_class(tmp_path):
    """Two folders have an image of the same name: one of the two would get the other's class."""
    for folder in ("x", "y"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / folder / "a.png")
    table = tmp_path / "labels.csv"
    for text, words in (
        ("a.png,1\na.png,7\n", "row 2: 'a.png' has another class in an earlier row"),
        ("a.png,1\n", "one row for several images of the same name: a.png"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(NoImages, match=words):
            open_data_set(str(tmp_path / "set"), tmp_path / "cache", labels=table)
    (tmp_path / "set" / "y" / "a.png").rename(tmp_path / "set" / "y" / "b.png")
    table.write_text("a.png,1\nb,7\na.png,1\n", encoding="utf-8")
    assert [one.label for one in open_data_set(str(tmp_path / "set"), tmp_path / "cache", labels=table).images] == [
        1,
        7,
    ]


def test_folders_that_are_numbered_are_classes_when_asked(tmp_path):
    for number in ("0", "7", "999"):
        (tmp_path / number).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / number / "a.png")
    found = open_data_set(str(tmp_path), tmp_path / "cache", is_numbered=True).images
    assert sorted(image.label for image in found) == [0, 7, 999]
    assert {image.label for image in open_data_set(str(tmp_path), tmp_path / "cache").images} == {None}
    (tmp_path / "999").rename(tmp_path / "1000")
    with pytest.raises(NoImages, match="not numbered from 0 to 999: 1000"):
        open_data_set(str(tmp_path), tmp_path / "cache", is_numbered=True)


def test_labels_of_the_command_line_reach_the_data(flat, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("a,0\n", encoding="utf-8")
    words = ("tests_perf/test_end_to_end.py", "--collect-only", "--model", TINY)
    outcome = run_here(*words, f"--data={flat}", f"--labels={table}")
    assert outcome.code == 4, outcome.text
    assert "no row for 1 of 2 images" in outcome.text
    assert run_here(*words, f"--labels={table}").code == 4
