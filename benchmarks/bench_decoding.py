"""Ways from a JPEG file to pixels, side by side: `python -m benchmarks.bench_decoding [DIR]`, a part of bench-harness.

Each way decodes the same files on one thread, in turns; what is printed is its processor time an image, and whether its
pixels are those of Pillow. Libraries that are not installed are left out with a line. Nothing is asserted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from PIL import Image

from harness.data import ImageFile, decode, write_generated_jpegs
from models.catalog import find_spec, load_catalog
from models.preprocess import build_byte_transform, build_transform

FILES, TURNS = 100, 5
Way = Callable[[bytes], Any]


def pillow(data: bytes) -> Any:
    """Decode with Pillow."""
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def simplejpeg(data: bytes) -> Any:
    """Decode with simplejpeg, which has libjpeg-turbo."""
    import simplejpeg as library

    return library.decode_jpeg(data, colorspace="RGB")


def simplejpeg_fast(data: bytes) -> Any:
    """Decode with simplejpeg's inexact transform and upsampling."""
    import simplejpeg as library

    return library.decode_jpeg(data, colorspace="RGB", fastdct=True, fastupsample=True)


def turbojpeg(data: bytes) -> Any:
    """Decode with PyTurboJPEG, which needs libjpeg-turbo as a library of the system."""
    import turbojpeg as library

    return library.TurboJPEG().decode(data, pixel_format=library.TJPF_RGB)


def libvips(data: bytes) -> Any:
    """Decode with libvips."""
    import pyvips

    return pyvips.Image.jpegload_buffer(data).numpy()


DECODERS: dict[str, Way] = {
    "Pillow": pillow,
    "simplejpeg": simplejpeg,
    "simplejpeg, inexact": simplejpeg_fast,
    "PyTurboJPEG": turbojpeg,
    "libvips": libvips,
}


def in_turns(ways: dict[str, Callable[[Any], Any]], items: Sequence[Any]) -> dict[str, tuple[float, list[Any]]]:
    """Return for each way the milliseconds of processor time an item, the median of some turns, and its results.

    A way that cannot be taken is left out with a line.
    """
    found: dict[str, tuple[float, list[Any]]] = {}
    taken_ms: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        try:
            found[name] = (0.0, [way(item) for item in items])
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            print(f"  {name}: left out ({type(error).__name__}: {str(error).splitlines()[0]})")
    for _ in range(TURNS):
        for name in found:
            began = process_time()
            for item in items:
                ways[name](item)
            taken_ms[name].append(1e3 * (process_time() - began) / len(items))
    return {name: (statistics.median(taken_ms[name]), results) for name, (_, results) in found.items()}


def compare_decoders(files: Sequence[ImageFile]) -> list[str]:
    """Compare libraries that decode, each with Pillow's pixels."""
    found = in_turns(dict(DECODERS), [file.read() for file in files])
    base_ms, pixels = found["Pillow"]
    lines = []
    for name, (ms, results) in found.items():
        same = sum(np.array_equal(one, other) for one, other in zip(results, pixels, strict=True))
        lines.append(f"{name}: {ms:.3f} ms, {ms / base_ms:.2f} of Pillow's; the same pixels in {same} of {len(pixels)}")
    return lines


def compare_ways(files: Sequence[ImageFile]) -> list[str]:
    """Compare the whole way from file to tensor: the library's own, and both values of --decoder."""
    from timm.data import create_transform

    spec = find_spec("mobilenetv2_100", load_catalog())
    fast = replace(spec, input=replace(spec.input, resampler="torch"))
    trained = spec.input
    timm = create_transform(
        (3, *trained.size),
        interpolation=trained.interpolation,
        mean=trained.mean,
        std=trained.std,
        crop_pct=trained.crop_pct,
    )

    def by_library(file: ImageFile) -> Any:
        with Image.open(BytesIO(file.read())) as image:
            return timm(image.convert("RGB"))

    exact, quick = build_transform(spec), build_transform(fast)
    ways = {
        "timm's own": by_library,
        "--decoder exact": lambda file: exact(decode(file)),
        "--decoder fast": lambda file: quick(decode(file)),
    }
    found = in_turns(ways, files)
    base_ms, tensors = found["timm's own"]
    lines = []
    for name, (ms, results) in found.items():
        same = sum(torch.equal(one, other) for one, other in zip(results, tensors, strict=True))
        lines.append(f"{name}: {ms:.3f} ms, {ms / base_ms:.2f} of timm's; the same tensor in {same} of {len(tensors)}")
    bytes_of = (build_byte_transform(spec), build_byte_transform(fast))
    levels = [
        (one(decode(file)).to(torch.int16) - other(decode(file))).abs() for file in files for one, other in [bytes_of]
    ]
    worst = max(int(level.max()) for level in levels)
    share = statistics.fmean(float((level > 0).float().mean()) for level in levels)
    return [*lines, f"fast differs from exact by at most {worst} levels, in {100 * share:.2f}% of the values"]


def main(words: Sequence[str]) -> None:
    """Print both comparisons, of the JPEG files in a folder or of generated ones."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if words:
            paths = sorted(path for path in Path(words[0]).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
            files = [ImageFile(path, None) for path in paths[:: max(1, len(paths) // FILES)]][:FILES]
        else:
            files = list(write_generated_jpegs(Path(folder), FILES))
        for title, compare in (("decoding", compare_decoders), ("from file to tensor", compare_ways)):
            print(f"{title}, {len(files)} files, processor time an image on one thread", flush=True)
            for line in compare(files):
                print("  " + line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
