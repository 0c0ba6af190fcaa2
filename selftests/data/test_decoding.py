"""Pictures of every depth and colour space: the libraries' pixels or unreadable, and every failure names its file."""

import struct
import sys
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from harness.data import ImageFile, UnreadableImage, decode, split_readable
from harness.data.jpeg import PlainJpegs
from harness.measure.pipeline import answers_of_files, first_readable, stage_rates, workers
from models.tasks import classify as TASK
from selftests.logits import as_outputs

RAMP = np.tile(np.linspace(0, 255, 256).round().astype(np.uint8), (8, 1))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *more, depth=1, colour=0, rows=None):
    bits = width * depth * {0: 1, 2: 3}[colour]
    rows = rows or [bytes((bits + 7) // 8)] * height
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def held(content, name="odd.png"):
    return ImageFile(Path("set"), 0, name, lambda: content)


def saved(image, tmp_path, name, **settings):
    image.save(tmp_path / name, **settings)
    return ImageFile(tmp_path / name, 0)


BROKEN = {
    "a bomb of 180 megapixels": lambda: png(20000, 9000),
    "two mebibytes of profile": lambda: png(8, 8, chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)))),
    "a chunk that is cut off": lambda: png(8, 8)[:40],
    "a broken checksum": lambda: png(8, 8).replace(b"IDAT", b"IDAX"),
    "an empty file": lambda: b"",
    "what macOS leaves": lambda: bytes.fromhex("00051607000200004d6163204f532058") + bytes(64),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_whatever_pillow_raises_is_an_unreadable_image_with_its_name(content):
    with pytest.raises(UnreadableImage, match=r"set: odd\.png: ."):
        decode(held(content()))


@pytest.mark.parametrize("error", [ValueError, SyntaxError, struct.error, KeyError, EOFError, MemoryError, zlib.error])
def test_whatever_an_opener_raises_is_an_unreadable_image_with_its_name(error):
    def fails():
        raise error

    with pytest.raises(UnreadableImage, match=r"odd\.png: ."):
        decode(ImageFile(Path("set"), 0, "odd.png", fails))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_a_grey_of_16_bits_is_that_of_8_bits(tmp_path, suffix):
    wide = saved(Image.fromarray(RAMP.astype(np.uint16) * 257), tmp_path, f"wide.{suffix}")
    np.testing.assert_array_equal(np.asarray(decode(wide)), np.stack([RAMP] * 3, axis=2))


def test_an_rgb_of_16_bits_is_that_of_8_bits():
    row = (RAMP[0].astype(">u2") * 257).astype(">u2").repeat(3).tobytes()
    found = np.asarray(decode(held(png(256, 8, depth=16, colour=2, rows=[row] * 8))))
    np.testing.assert_array_equal(found, np.stack([RAMP] * 3, axis=2))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_that_do_not_say_what_is_white_are_unreadable(tmp_path, mode):
    file = saved(Image.fromarray(RAMP).convert(mode), tmp_path, f"{mode}.tif")
    with pytest.raises(UnreadableImage, match="which value is white"):
        decode(file)


def test_lab_is_the_colour_that_it_names(tmp_path):
    image = Image.merge("RGB", [Image.fromarray(np.roll(RAMP, 40 * k, axis=1)) for k in range(3)])
    file = saved(image.convert("LAB"), tmp_path, "lab.tif")
    difference = np.abs(np.asarray(decode(file)).astype(int) - np.asarray(image).astype(int))
    assert np.median(difference) <= 3


def test_cmyk_is_what_the_libraries_see(tmp_path):
    from torchvision.datasets.folder import pil_loader

    image = Image.merge("CMYK", [Image.fromarray(np.roll(RAMP, 40 * k, axis=1)) for k in range(4)])
    file = saved(image, tmp_path, "cmyk.jpg", quality=100)
    np.testing.assert_array_equal(np.asarray(decode(file)), np.asarray(pil_loader(str(file.path))))


def test_a_palette_with_alpha_keeps_its_colours_and_warns_of_nothing(tmp_path):
    image = Image.fromarray(RAMP).convert("P")
    file = saved(image, tmp_path, "palette.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(decode(file))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_the_orientation_of_exif_is_not_applied_as_timm_does_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(Image.new("RGB", (20, 10)), tmp_path, "turned.jpg", exif=exif)
    assert decode(file).size == (20, 10)


def colourful(width, height, seed=0):
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    noise = random.integers(-20, 20, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_plain_jpeg_has_the_pixels_of_pillow_in_every_sampling_and_odd_sizes(tmp_path, subsampling, progressive):
    """Of each way the first is decoded by both libraries, and the others by simplejpeg alone."""
    jpegs = PlainJpegs()
    for index, (width, height) in enumerate([(64, 48), (63, 47), (17, 9), (1, 1), (299, 301)]):
        image = colourful(width, height, index)
        file = saved(image, tmp_path, "a.jpg", subsampling=subsampling, progressive=progressive, quality=80 + index)
        with Image.open(file.path) as opened:
            found = jpegs.decode(opened, file.read())
        assert found is not None, "simplejpeg decodes it, and agrees with Pillow"
        with Image.open(file.path) as opened:
            np.testing.assert_array_equal(np.asarray(found), np.asarray(opened.convert("RGB")))


def test_where_simplejpeg_gives_other_pixels_pillow_goes_on_alone(tmp_path, monkeypatch):
    """With another libjpeg its pixels could be one level brighter."""
    asked, own = [], simplejpeg.decode_jpeg

    def brighter(data, colorspace):
        asked.append(len(data))
        return own(data, colorspace=colorspace).clip(max=254) + 1

    monkeypatch.setattr(simplejpeg, "decode_jpeg", brighter)
    jpegs, file = PlainJpegs(), saved(colourful(40, 30), tmp_path, "a.jpg")
    for _ in range(3):
        with Image.open(file.path) as opened:
            assert jpegs.decode(opened, file.read()) is None
    assert len(asked) == 1, "once is enough to know"


def test_without_simplejpeg_pillow_decodes_it_all(tmp_path, monkeypatch):
    """An environment of its own, such as that of PopTorch, may not have it."""
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    file = saved(colourful(40, 30), tmp_path, "a.jpg")
    with Image.open(file.path) as opened:
        assert PlainJpegs().decode(opened, file.read()) is None
        np.testing.assert_array_equal(np.asarray(decode(file)), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.99])
def test_a_jpeg_that_is_cut_off_is_unreadable_and_not_half_grey(tmp_path, cut):
    content = saved(colourful(200, 160), tmp_path, "a.jpg").read()
    decode(held(content, "whole.jpg"))  # so that simplejpeg is asked first
    with pytest.raises(UnreadableImage, match=r"set: cut\.jpg: .*truncated"):
        decode(held(content[: int(len(content) * cut)], "cut.jpg"))


@pytest.mark.parametrize("seed", range(6))
def test_a_jpeg_with_damaged_bytes_is_what_pillow_makes_of_it(tmp_path, seed):
    content = bytearray(saved(colourful(200, 160), tmp_path, "a.jpg").read())
    for place in np.random.default_rng(seed).integers(len(content) // 3, len(content) - 2, 3):
        content[place] ^= 0x55
    try:
        with Image.open(BytesIO(content)) as opened:
            expected = np.asarray(opened.convert("RGB"))
    except OSError:
        with pytest.raises(UnreadableImage):
            decode(held(bytes(content), "damaged.jpg"))
    else:
        np.testing.assert_array_equal(np.asarray(decode(held(bytes(content), "damaged.jpg"))), expected)


class Greys:
    """Answers the class that the grey level of an image names."""

    def put(self, images):
        return images

    def submit(self, batch):
        return batch.mean(dim=(1, 2, 3)).mul(255).round().long()

    def synchronize(self):
        pass

    def fetch(self, output):
        return as_outputs(np.eye(256, dtype=np.float32)[output.numpy()])


def to_tensor(image):
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.fixture
def mixed(tmp_path):
    """Six readable files, and two that are not."""
    files = [saved(Image.new("RGB", (8, 8), (10 * level,) * 3), tmp_path, f"{level}.png") for level in range(1, 7)]
    return [held(b"", "first"), *files[:3], held(png(20000, 9000), "bomb"), *files[3:]]


def test_readable_files_keep_their_order_and_the_others_are_named(mixed):
    with workers(2) as pool:
        readable, errors = split_readable(mixed, pool)
        assert readable == [file for file in mixed if file.member is None]
        assert ["first" in str(errors[0]), "bomb" in str(errors[1])] == [True, True]
        assert first_readable(mixed, 4, pool) == readable[:4]
        with pytest.raises(UnreadableImage, match="none of the 1 files"):
            first_readable(mixed[:1], 4, pool)


def test_stages_and_answers_leave_out_what_is_unreadable_only_when_asked(mixed):
    lost = []
    with workers(2) as pool:
        assert len(stage_rates(Greys(), TASK, to_tensor, mixed, 4, pool, skips_unreadable=True)) == 4
        with pytest.raises(UnreadableImage, match="first"):
            stage_rates(Greys(), TASK, to_tensor, mixed, 4, pool)
        answers = list(
            answers_of_files(Greys(), to_tensor, mixed, 4, pool, on_unreadable=lambda index, error: lost.append(index))
        )
    assert lost == [0, 4]
    assert [index for indices, _ in answers for index in indices] == [1, 2, 3, 5, 6, 7]
    assert [one for _, outputs in answers for one in TASK.decode(outputs)] == [10, 20, 30, 40, 50, 60]
