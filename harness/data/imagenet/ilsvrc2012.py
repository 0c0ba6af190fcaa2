"""Recognises the ILSVRC2012 validation set by what it holds, never by a folder's name.

Published accuracies are of this set alone, so that a floor derived from one applies to nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.data.images import ImageFile
from harness.data.sampling import images_sha256

IMAGES = 50_000
# The digest of the names and classes of all images, sorted by name (see `images_sha256`).
# Source: valprep.sh of soumith/imagenetloader.torch, which sorts the images into folders by wnid; the last twenty agree
# with imagenet_2012_validation_synset_labels.txt of TensorFlow's slim, made from the development kit's ground truth.
NAMES_AND_CLASSES_SHA256 = "4fd5c1c386fe9d5c48c720908620b1d1fdf056c6408493003ece6c4e4bb51b5b"
# The size of ILSVRC2012_img_val.tar in bytes. Files that were resized or encoded again do not add up to it.
ARCHIVE_BYTES = 6_744_924_160
_MOST_DEVIATION = 0.001
_TAR_BLOCK = 512


def is_validation_set(images: Sequence[ImageFile]) -> bool:
    """Return whether these are all 50,000 images, with the names, the classes and the sizes of the validation set.

    One digest proves every name and class. In a tar archive, the files would have to take the size of the published
    archive, within 0.1%.
    """
    if len(images) != IMAGES:
        return False
    if images_sha256(sorted(images, key=lambda image: image.name)) != NAMES_AND_CLASSES_SHA256:
        return False
    archived = sum(_TAR_BLOCK + -(-image.size_bytes // _TAR_BLOCK) * _TAR_BLOCK for image in images)
    return abs(archived / ARCHIVE_BYTES - 1) <= _MOST_DEVIATION
