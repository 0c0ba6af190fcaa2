"""Recognises COCO's val2017 by what it holds, never by a folder's name.

Published APs are of this set alone, and a part of it has a higher AP than the whole, so that a floor derived from a
published AP applies to nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.data.coco.categories import COCO_CATEGORIES
from harness.data.coco.objects import Objects
from harness.data.images import ImageFile

IMAGES, OBJECTS = 5_000, 36_781
# Of the names of all 5,000 images in their order, a line each: 000000000139.jpg to 000000581781.jpg.
NAMES_SHA256 = "09b3bbeda289610ec9fd4e4b5e6da32ec04f98a9a4111e99790de863be0f8f9e"
# The size of val2017.zip in bytes. A zip makes JPEG files hardly smaller, and names each of them twice.
ARCHIVE_BYTES = 815_585_330
_MOST_DEVIATION = 0.02


def is_val2017(images: Sequence[ImageFile], objects: Objects) -> bool:
    """Return whether these are all images of val2017 with all their annotations.

    One hash proves the names, in whichever order the images are given. The categories have to be COCO's, the objects as
    many as there are, crowds among them, and the files as large, within 2%, as those in the published archive, so that
    images that were encoded again are not taken for them.
    """
    if len(images) != IMAGES or len(objects.marked) != OBJECTS or dict(objects.categories) != dict(COCO_CATEGORIES):
        return False
    names = "".join(f"{name}\n" for name in sorted(image.name for image in images))
    if hashlib.sha256(names.encode()).hexdigest() != NAMES_SHA256:
        return False
    if not any(one.is_crowd for one in objects.marked):
        return False
    return abs(sum(image.size_bytes for image in images) / ARCHIVE_BYTES - 1) <= _MOST_DEVIATION
