"""Extracts the two ILSVRC2012 archives, as downloaded, once, through torchvision."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

from harness.data.images import NoImages
from harness.files import whole_folder

IMAGES_ARCHIVE = "ILSVRC2012_img_val.tar"
DEVKIT_ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"


def has_archives(folder: Path) -> bool:
    """Return whether either archive lies in the folder."""
    return (folder / IMAGES_ARCHIVE).exists() or (folder / DEVKIT_ARCHIVE).exists()


def extract(folder: Path, report: Callable[[str], None]) -> None:
    """Extract `val/<wnid>/*.JPEG` beside the archives. The folder `val` appears whole or not at all.

    torchvision checks both archives against their published MD5 sums, and takes the classes from the development kit's
    ground truth.

    Raises:
        NoImages: if an archive is missing, damaged or not the published one, or if the folder cannot be written.
    """
    from torchvision.datasets.imagenet import parse_devkit_archive, parse_val_archive

    for name in (IMAGES_ARCHIVE, DEVKIT_ARCHIVE):
        if not (folder / name).exists():
            raise NoImages(f"{folder} has no {name}, which goes with the other archive; put both there")
    report(f"checking and extracting {IMAGES_ARCHIVE}, once; some minutes for 50,000 images")
    try:
        with whole_folder(folder / "val") as part:
            parse_devkit_archive(folder)
            parse_val_archive(folder, folder=part.name)
    except RuntimeError as error:  # torchvision raises this if an MD5 sum differs
        raise NoImages(f"{error} Its MD5 sum is not the published one: download it again") from error
    except (tarfile.TarError, EOFError) as error:
        raise NoImages(f"an archive in {folder} is damaged ({error}); download it again") from error
    except OSError as error:
        raise NoImages(
            f"cannot extract in {folder}: {error.strerror}; copy the archives to a folder with room"
        ) from error
