"""Recognises the ILSVRC2012 validation set by what it holds, never by a folder's name.

Published accuracies are of this set alone, so that a floor derived from one applies to nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.data.imagenet.labels import class_indices
from harness.data.images import ImageFile

IMAGES = 50_000
IMAGES_A_CLASS = 50
# The wnids of the last images, 49,981 to 50,000. Source: imagenet_2012_validation_synset_labels.txt of TensorFlow's
# slim, made from the development kit's ground truth.
_LAST_WNIDS = (
    *("n01981276", "n06794110", "n04485082", "n02119022", "n02481823"),
    *("n02802426", "n01689811", "n01796340", "n02667093", "n01622779"),
    *("n01980166", "n02442845", "n04328186", "n01871265", "n03729826"),
    *("n02123394", "n01630670", "n02106166", "n10148035", "n02437616"),
)
# The size of ILSVRC2012_img_val.tar in bytes. Files that were resized or encoded again do not add up to it.
ARCHIVE_BYTES = 6_744_924_160
_MOST_DEVIATION = 0.001
_TAR_BLOCK = 512


def is_validation_set(images: Sequence[ImageFile]) -> bool:
    """Return whether these are all 50,000 images, with the names, the classes and the sizes of the validation set.

    The names have to be ILSVRC2012_val_00000001.JPEG to …50000. Each class has to have 50 images, and the classes of
    the last twenty images have to be the published ones. In a tar archive, the files would have to take the size of the
    published archive, within 0.1%.
    """
    if len(images) != IMAGES:
        return False
    by_name = {image.name: image for image in images}
    if by_name.keys() != {f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, IMAGES + 1)}:
        return False
    if set(Counter(image.label for image in images).values()) != {IMAGES_A_CLASS}:
        return False
    first = IMAGES - len(_LAST_WNIDS) + 1
    last = [by_name[f"ILSVRC2012_val_{number:08d}.JPEG"].label for number in range(first, IMAGES + 1)]
    if last != [class_indices()[wnid] for wnid in _LAST_WNIDS]:
        return False
    archived = sum(_TAR_BLOCK + -(-image.size_bytes // _TAR_BLOCK) * _TAR_BLOCK for image in images)
    return abs(archived / ARCHIVE_BYTES - 1) <= _MOST_DEVIATION
