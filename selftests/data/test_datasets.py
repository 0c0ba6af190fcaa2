"""Every way in which a labelled set lies about gives the same images with the same classes; bad ones are refused."""

import hashlib
import importlib.util
import json
import pickle
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tfrecord.writer import TFRecordWriter
from torchvision.datasets import imagenet as torchvision_imagenet

from harness.data import (
    ImageFile,
    NoImages,
    class_indices,
    class_names,
    decode,
    images_sha256,
    open_data_set,
    readers,
    sample_images,
    write_generated_jpegs,
)
from harness.data.imagenet import ilsvrc2012

WNIDS = sorted(class_indices())
CLASSES = (WNIDS[3], WNIDS[0], WNIDS[999])  # of image 1, 2, 3, 4, …, in turn
IMAGES = 12


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve JPEG files named as those of the validation set, and the wnid of each."""
    folder = tmp_path_factory.mktemp("photographs")
    named = {}
    for number, file in enumerate(write_generated_jpegs(folder, IMAGES), start=1):
        path = file.path.rename(folder / f"ILSVRC2012_val_{number:08d}.JPEG")
        named[path] = CLASSES[number % 3]
    return named


def contents(data):
    """Name to class and pixels, of every image."""
    return {
        image.name: (image.label, hashlib.sha256(np.asarray(decode(image)).tobytes()).hexdigest())
        for image in data.images
    }


@pytest.fixture(scope="module")
def expected(photographs):
    return {
        path.name: (
            WNIDS.index(wnid),
            hashlib.sha256(np.asarray(Image.open(path).convert("RGB")).tobytes()).hexdigest(),
        )
        for path, wnid in photographs.items()
    }


def write_folder(photographs, root):
    for path, wnid in photographs.items():
        (root / wnid).mkdir(parents=True, exist_ok=True)
        (root / wnid / path.name).write_bytes(path.read_bytes())


def write_archives(photographs, root, monkeypatch):
    """The two archives in the layout of ILSVRC2012: flat images, and a development kit with its meta.mat.

    torchvision knows the published archives by their MD5 sums; those of these are put in their place.
    """
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as tar:
        for path in photographs:
            tar.add(path, path.name)
    kit = root / "kit" / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    # numbered in an order of their own, as in the kit, with a node of the hierarchy behind the leaves
    numbers = {wnid: number for number, wnid in enumerate([WNIDS[999], WNIDS[0], WNIDS[3]], start=1)}
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    synsets = np.empty((4, 1), dtype=[(name, object) for name in (*fields, "num_train_images")])
    for row, (wnid, number) in enumerate(numbers.items()):
        synsets[row, 0] = (number, wnid, f"{wnid}, other name", "a gloss", 0, np.zeros((1, 0)), 0, 1300)
    synsets[3, 0] = (1001, "n00001740", "entity", "a gloss", 3, np.array([[1, 2, 3]]), 1, 0)
    scipy.io.savemat(kit / "meta.mat", {"synsets": synsets})
    truth = "".join(f"{numbers[wnid]}\n" for wnid in photographs.values())
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit.parent, "ILSVRC2012_devkit_t12")
    adopt_md5(root, monkeypatch)


def adopt_md5(root, monkeypatch):
    for split, name in (("val", "ILSVRC2012_img_val.tar"), ("devkit", "ILSVRC2012_devkit_t12.tar.gz")):
        md5 = hashlib.md5((root / name).read_bytes()).hexdigest()
        monkeypatch.setitem(torchvision_imagenet.ARCHIVE_META, split, (name, md5))


def write_shards(photographs, root, *, offset=1, synset=True, shards=2):
    root.mkdir(parents=True, exist_ok=True)
    items = list(photographs.items())
    for shard in range(shards):
        writer = TFRecordWriter(str(root / f"validation-{shard:05d}-of-{shards:05d}"))
        for path, wnid in items[shard::shards]:
            features = {
                "image/encoded": (path.read_bytes(), "byte"),
                "image/class/label": (WNIDS.index(wnid) + offset, "int"),
                "image/filename": (path.name.encode(), "byte"),
            }
            if synset:
                features["image/class/synset"] = (wnid.encode(), "byte")
            writer.write(features)
        writer.close()


def test_a_folder_of_wnids(photographs, expected, tmp_path):
    write_folder(photographs, tmp_path / "val")
    data = open_data_set(str(tmp_path), tmp_path / "cache")
    assert contents(data) == expected
    assert (data.route, data.is_validation_set) == ("folder", False)
    assert contents(open_data_set(str(tmp_path / "val"), tmp_path / "cache")) == expected


def test_the_archives_as_downloaded(photographs, expected, tmp_path, monkeypatch):
    write_archives(photographs, tmp_path, monkeypatch)
    told = []
    data = open_data_set(str(tmp_path), tmp_path / "cache", told.append)
    assert contents(data) == expected
    assert data.route == "archives"
    assert "extracting" in told[0]
    again = open_data_set(str(tmp_path), tmp_path / "cache", told.append)
    assert contents(again) == expected
    assert len(told) == 1, "extracted a second time"


def test_tf_records(photographs, expected, tmp_path):
    write_shards(photographs, tmp_path)
    data = open_data_set(str(tmp_path), tmp_path / "cache")
    assert contents(data) == expected
    assert data.route == "tfrecord"


def test_a_url(photographs, expected, tmp_path):
    write_folder(photographs, tmp_path / "far" / "val")
    url = f"file://{tmp_path}/far"
    data = open_data_set(url, tmp_path / "cache")
    assert contents(data) == expected
    assert data.route == "file, folder"
    for path in (tmp_path / "far").rglob("*.JPEG"):
        path.unlink()
    assert contents(open_data_set(url, tmp_path / "cache")) == expected, "fetched a second time"


def test_shards_behind_a_url(photographs, expected, tmp_path):
    write_shards(photographs, tmp_path / "far")
    assert contents(open_data_set(f"file://{tmp_path}/far", tmp_path / "cache")) == expected


def test_timms_hugging_face_reader(photographs, expected, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="hfds/ needs the package datasets (requirements/data.txt)")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    write_folder(photographs, tmp_path / "set" / "validation")
    data = open_data_set(f"hfds/{tmp_path}/set", tmp_path / "cache")
    assert contents(data) == expected
    assert data.route == "hfds"


class SetInMemory:
    """A reader of timm's kind, of two classes, that another process can open as well."""

    class_to_idx: ClassVar = {WNIDS[1]: 0, WNIDS[5]: 1}

    def __getitem__(self, index):
        return BytesIO(bytes([index])), index % 2

    def iter_targets(self):
        return iter([0, 1, 0])

    def filename(self, index, basename=False):
        return f"{index}.JPEG"


def test_images_of_a_reader_can_be_sent_to_another_process(tmp_path, monkeypatch):
    import timm.data.readers

    monkeypatch.setattr(timm.data.readers, "create_reader", lambda name, **settings: SetInMemory())
    images = open_data_set("hfds/set", tmp_path).images
    readers._open_reader.cache_clear()  # as in a process that has not opened it
    sent = pickle.loads(pickle.dumps(images))
    assert [image.read() for image in sent] == [b"\0", b"\1", b"\2"]
    assert [image.label for image in sent] == [1, 5, 1]


class SetWithoutNames(SetInMemory):
    """Its labels are numbers, and nothing says of what."""

    class_to_idx: ClassVar = {}


class SetOfOtherThings(SetInMemory):
    """A thousand classes that are not those of ILSVRC2012."""

    class_to_idx: ClassVar = {f"thing {index}": index for index in range(1000)}


class SetInWords(SetInMemory):
    """The classes of ILSVRC2012 as Hugging Face has them, in words."""

    class_to_idx: ClassVar = {  # wnids make the cranes differ
        f"{name.partition(' ')[2]}, {name.partition(' ')[0]}": index for index, name in enumerate(class_names())
    }


def test_labels_are_taken_for_those_of_ilsvrc2012_only_where_something_says_so(tmp_path, monkeypatch):
    import timm.data.readers

    def labels(reader, **settings):
        monkeypatch.setattr(timm.data.readers, "create_reader", lambda name, **given: reader())
        return [image.label for image in open_data_set("hfds/set", tmp_path, **settings).images]

    with pytest.raises(NoImages, match="does not say what its classes are: add --class-folders index"):
        labels(SetWithoutNames)
    assert labels(SetWithoutNames, is_numbered=True) == [0, 1, 0]
    with pytest.raises(NoImages, match="neither wnids nor the 1,000 of ILSVRC2012"):
        labels(SetOfOtherThings)
    assert labels(SetInWords) == [0, 1, 0]


def test_a_folder_of_shards_is_that_of_the_present_folder_as_it_is_now(photographs, tmp_path, monkeypatch):
    """Two folders have sets of one name; then the second one's labels change."""
    pytest.importorskip("webdataset", reason="wds/ needs the package webdataset (requirements/data.txt)")
    path = next(iter(photographs))

    def labels(folder, wnid):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
        (tmp_path / folder).mkdir()
        write_webdataset({path: wnid}, tmp_path / folder / "set", promised=1)
        monkeypatch.chdir(tmp_path / folder)
        return [image.label for image in open_data_set("wds/set", tmp_path / "cache").images]

    assert [labels("a", WNIDS[1]), labels("b", WNIDS[7]), labels("b", WNIDS[9])] == [[1], [7], [9]]
    with pytest.raises(NoImages, match="no folder .*/nowhere"):
        open_data_set("wds/nowhere", tmp_path / "cache")


def write_webdataset(photographs, root, promised=IMAGES):
    root.mkdir()
    with tarfile.open(root / "val-0000.tar", "w") as tar:
        for path, wnid in photographs.items():
            label = root / "label"
            label.write_text(str(WNIDS.index(wnid)))
            tar.add(path, f"{path.stem}.jpg")
            tar.add(label, f"{path.stem}.cls")
    split = {"name": "validation", "filenames": ["val-0000.tar"], "shard_lengths": [promised], "num_samples": promised}
    (root / "_info.json").write_text(json.dumps({"splits": {"validation": split}}))


def test_timms_webdataset_reader(photographs, expected, tmp_path):
    pytest.importorskip("webdataset", reason="wds/ needs the package webdataset (requirements/data.txt)")
    write_webdataset(photographs, tmp_path / "set")
    data = open_data_set(f"wds/{tmp_path}/set", tmp_path / "cache")
    assert sorted(contents(data).values()) == sorted(expected.values())  # the reader gives no names


def test_a_webdataset_with_a_damaged_image_is_refused(photographs, tmp_path):
    """Its reader leaves the image out with a log line; the count tells."""
    pytest.importorskip("webdataset", reason="wds/ needs the package webdataset (requirements/data.txt)")
    bad = tmp_path / "bad.JPEG"
    bad.write_bytes(b"no image")
    write_webdataset({**dict(list(photographs.items())[1:]), bad: WNIDS[0]}, tmp_path / "set")
    with pytest.raises(NoImages, match="promises 12 images and gave 11"):
        open_data_set(f"wds/{tmp_path}/set", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "data").iterdir())


def test_a_reader_whose_package_is_missing_says_what_to_install(tmp_path, monkeypatch):
    import timm.data.readers

    def missing(*arguments, **keywords):
        raise ImportError("No module named 'tensorflow'")

    monkeypatch.setattr(timm.data.readers, "create_reader", missing)
    with pytest.raises(NoImages, match="pip install tensorflow-datasets"):
        open_data_set("tfds/imagenet2012", tmp_path)


def test_a_url_that_needs_a_package_or_is_not_there_says_so(tmp_path):
    with pytest.raises(NoImages, match="adlfs"):
        open_data_set("az://bucket/imagenet", tmp_path)
    with pytest.raises(NoImages, match="is no folder"):
        open_data_set(f"file://{tmp_path}/absent", tmp_path)


@pytest.mark.parametrize("cut", ["ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"])
def test_a_truncated_archive_is_refused_and_leaves_nothing(photographs, tmp_path, monkeypatch, cut):
    write_archives(photographs, tmp_path, monkeypatch)
    whole = (tmp_path / cut).read_bytes()
    (tmp_path / cut).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NoImages, match=f"{cut}.*MD5"):
        open_data_set(str(tmp_path), tmp_path / "cache")
    adopt_md5(tmp_path, monkeypatch)  # even if its sum were right
    with pytest.raises(NoImages, match="damaged"):
        open_data_set(str(tmp_path), tmp_path / "cache")
    assert not list(tmp_path.glob("val*")), "half a set would be taken for a whole one"


def test_one_archive_without_the_other_is_refused(photographs, tmp_path, monkeypatch):
    write_archives(photographs, tmp_path, monkeypatch)
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    with pytest.raises(NoImages, match="no ILSVRC2012_devkit_t12.tar.gz"):
        open_data_set(str(tmp_path), tmp_path / "cache")


@pytest.mark.parametrize(("offset", "label"), [(0, 0), (2, 1001)])
def test_labels_outside_the_classes_are_refused(photographs, tmp_path, offset, label):
    write_shards(photographs, tmp_path, offset=offset, synset=False)
    with pytest.raises(NoImages, match=f"ILSVRC2012_val_.*label {label}; slim's are 1 to 1000"):
        open_data_set(str(tmp_path), tmp_path / "cache")


def test_a_label_that_denies_its_synset_is_refused(photographs, tmp_path):
    write_shards({path: wnid for path, wnid in photographs.items() if wnid != WNIDS[0]}, tmp_path, offset=0)
    with pytest.raises(NoImages, match="synset"):
        open_data_set(str(tmp_path), tmp_path / "cache")


def test_a_shard_that_is_cut_off_or_missing_is_refused(photographs, tmp_path):
    write_shards(photographs, tmp_path)
    last = tmp_path / "validation-00001-of-00002"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(NoImages, match="validation-00001-of-00002 is cut off"):
        open_data_set(str(tmp_path), tmp_path / "cache")
    last.unlink()
    with pytest.raises(NoImages, match="has 1 shards.*there are 2"):
        open_data_set(str(tmp_path), tmp_path / "cache")


@pytest.mark.parametrize("stranger", ["zebras", "n99999999"])
def test_a_folder_that_is_none_of_the_wnids_is_refused_among_those_that_are(photographs, tmp_path, stranger):
    write_folder(photographs, tmp_path)
    (tmp_path / stranger).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / stranger / "a.JPEG")
    with pytest.raises(NoImages, match=f"1 of the folders.*{stranger}"):
        open_data_set(str(tmp_path), tmp_path / "cache")


def test_an_empty_or_absent_folder_is_refused(tmp_path):
    with pytest.raises(NoImages, match="no images"):
        open_data_set(str(tmp_path), tmp_path)
    with pytest.raises(NoImages, match="no folder"):
        open_data_set(str(tmp_path / "absent"), tmp_path)


def test_a_folder_without_any_wnid_is_unlabelled(tmp_path):
    write_generated_jpegs(tmp_path, 2)
    assert [image.label for image in open_data_set(str(tmp_path), tmp_path).images] == [None, None]


def validation_set(labels=None, sizes_bytes=(134_100, 134_300)):
    """50,000 images with the names and the total size of the validation set, and no pixels."""
    labels = labels or [number % 1000 for number in range(50_000)]
    data = [bytes(size) for size in sizes_bytes]
    return [
        ImageFile(Path("set"), label, f"ILSVRC2012_val_{number:08d}.JPEG", partial(data.__getitem__, number % 2))
        for number, label in enumerate(labels, start=1)
    ]


@pytest.fixture
def made_up(monkeypatch):
    """A set with classes of its own, which is taken for the published one."""
    images = validation_set()
    monkeypatch.setattr(ilsvrc2012, "SHA256", images_sha256(images))
    return images


def test_the_validation_set_is_recognised_in_any_order(made_up):
    assert ilsvrc2012.is_validation_set(made_up)
    assert ilsvrc2012.is_validation_set(made_up[::-1])


def test_few_images_are_read_to_recognise_a_set_of_a_reader(made_up):
    """A reader has to open and copy every one of them, over a network or out of an archive."""
    read = []

    def counted(image):
        return replace(image, opener=lambda: read.append(image.name) or image.opener())

    assert ilsvrc2012.is_validation_set([counted(image) for image in made_up])
    assert 0 < len(set(read)) == len(read) <= ilsvrc2012.SAMPLED


def test_files_of_their_own_have_the_whole_size_and_are_not_read(made_up, monkeypatch):
    """A hundred of them would not show that the others were encoded again."""
    monkeypatch.setattr(ImageFile, "read", lambda self: pytest.fail("read"))
    sizes = {image.path: len(image.opener()) for image in (replace(one, path=Path(one.name)) for one in made_up)}
    stat = Path.stat
    monkeypatch.setattr(
        Path,
        "stat",
        lambda self, **options: SimpleNamespace(st_size=sizes[self]) if self in sizes else stat(self, **options),
    )
    files = [ImageFile(Path(image.name), image.label) for image in made_up]
    assert ilsvrc2012.is_validation_set(files)
    sizes |= {Path(image.name): 100_000 for image in made_up[1:1000]}
    assert not ilsvrc2012.is_validation_set(files)


def test_the_hash_is_that_of_the_published_labels():
    found = importlib.util.find_spec("tensorflow_datasets")
    if found is None:
        pytest.skip("the list of labels comes with tensorflow-datasets: pip install tensorflow-datasets")
    source = Path(found.origin).parent / "datasets" / "imagenet2012" / "validation_labels.txt"
    labels = [class_indices()[wnid] for wnid in source.read_text(encoding="utf-8").split()]
    assert ilsvrc2012.is_validation_set(validation_set(labels))


def test_classes_of_ones_own_are_not_those_of_the_published_set():
    assert not ilsvrc2012.is_validation_set(validation_set())


@pytest.mark.parametrize(
    "change", ["one fewer", "renamed", "last labels swapped", "first labels swapped", "encoded again", "class count"]
)
def test_what_only_resembles_the_validation_set_is_not_taken_for_it(made_up, change):
    images = validation_set(sizes_bytes=(60_000, 60_000)) if change == "encoded again" else list(made_up)

    def relabel(at, label):
        images[at] = ImageFile(images[at].path, label, images[at].name, images[at].opener)

    if change == "one fewer":
        images.pop()
    elif change == "renamed":
        images[-1] = ImageFile(images[-1].path, images[-1].label, "ILSVRC2012_test_00050000.JPEG", images[-1].opener)
    elif change.endswith("labels swapped"):
        one, other = (0, 1) if change.startswith("first") else (-1, -2)
        first, second = images[one].label, images[other].label
        relabel(one, second)
        relabel(other, first)
    elif change == "class count":
        relabel(0, 999)
    assert not ilsvrc2012.is_validation_set(images)


def many():
    """Three classes of very different size."""
    sizes = {3: 600, 0: 300, 999: 100}
    return [ImageFile(Path(f"{label}/{rank:04d}"), label) for label, size in sizes.items() for rank in range(size)]


@pytest.mark.parametrize("count", [10, 50, 100, 500])
def test_a_sample_holds_each_class_in_its_proportion(count):
    labels = [image.label for image in sample_images(many(), count)]
    assert len(labels) == count
    for label, share in ((3, 0.6), (0, 0.3), (999, 0.1)):
        assert abs(labels.count(label) - share * count) <= 1


def test_a_sample_does_not_depend_on_the_order_given_and_does_on_the_seed():
    assert sample_images(many(), 100) == sample_images(many()[::-1], 100)
    assert sample_images(many(), 100) != sample_images(many(), 100, seed=1)
    assert sample_images(many(), 100) == sample_images(many(), 300)[:100]
    assert sorted(map(str, sample_images(many(), None))) == sorted(map(str, many()))
