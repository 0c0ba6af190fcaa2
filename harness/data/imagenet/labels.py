"""The 1,000 classes of ILSVRC2012 with their wnids, indices and names, in the order of the sorted wnids."""

from __future__ import annotations

from functools import cache

IMAGENET_CLASSES = 1000


@cache
def class_indices() -> dict[str, int]:
    """Return the class index of each wnid, for the 1,000 classes of ILSVRC2012.

    Source: timm's list of ImageNet-1k synsets, in sorted order.
    """
    from timm.data import ImageNetInfo

    wnids: list[str] = ImageNetInfo().label_names()
    return {wnid: index for index, wnid in enumerate(wnids)}


@cache
def class_names() -> tuple[str, ...]:
    """Return what each class is, in the order of the class indices, such as `n01443537 goldfish`.

    Source: timm's synset lemmas.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(f"{wnid} {info.label_name_to_description(wnid).split(',')[0]}" for wnid in class_indices())
