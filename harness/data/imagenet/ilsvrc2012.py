"""Recognises the ILSVRC2012 validation set by what it holds, never by a folder's name.

Published accuracies are of this set alone, so that a floor derived from one applies to nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.data.images import ImageFile
from harness.data.sampling import images_sha256

IMAGES = 50_000
# `images_sha256` of all 50,000 images in the order of their names: ILSVRC2012_val_00000001.JPEG with class 65 to
# ILSVRC2012_val_00050000.JPEG. Source: validation_labels.txt of tensorflow-datasets 4.9.4 (imagenet2012), which was
# made from the development kit's ground truth.
SHA256 = "4fd5c1c386fe9d5c48c720908620b1d1fdf056c6408493003ece6c4e4bb51b5b"
# The size of ILSVRC2012_img_val.tar in bytes. Files that were resized or encoded again do not add up to it.
ARCHIVE_BYTES = 6_744_924_160
_MOST_DEVIATION = 0.001
_TAR_BLOCK = 512
# Of images that are no files of their own, whose size is only known once they are read, so many are read. Their mean
# scatters by 6% of that of all; images that were resized to 256 pixels have a fifth of it.
SAMPLED = 100
_MOST_DEVIATION_OF_SAMPLE = 0.3


def is_validation_set(images: Sequence[ImageFile]) -> bool:
    """Return whether these are all 50,000 images, with the names, the classes and the sizes of the validation set.

    One hash proves all names and classes, in whichever order the images are given. In a tar archive, the files would
    have to take the size of the published archive, within 0.1%. Where images are no files of their own, a hundred of
    them, spread over the set, are read, and have to take their part of it, within 30%.
    """
    if len(images) != IMAGES:
        return False
    ordered = sorted(images, key=lambda image: image.name)
    if images_sha256(ordered) != SHA256:
        return False
    if any(image.opener is not None for image in ordered):
        return _deviation(ordered[:: IMAGES // SAMPLED]) <= _MOST_DEVIATION_OF_SAMPLE
    return _deviation(ordered) <= _MOST_DEVIATION


def _deviation(images: Sequence[ImageFile]) -> float:
    """Return by which part images would take more or less room in an archive than as many of the published one do."""
    archived = sum(_TAR_BLOCK + -(-image.size_bytes // _TAR_BLOCK) * _TAR_BLOCK for image in images)
    return abs(archived / (ARCHIVE_BYTES * len(images) / IMAGES) - 1)
