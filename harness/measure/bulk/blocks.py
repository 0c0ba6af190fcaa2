"""The blocks of a bulk run: what one worker is handed at a time, and what is kept or lost as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.data import ImageFile

# Without a number of batches: enough images that handing out costs nothing, few enough that the end is shared out.
LEAST_BLOCK_IMAGES = 32
LEAST_BLOCK_BATCHES = 4


@dataclass(frozen=True)
class Block:
    """Some images of a data set, in its order.

    Attributes:
        index: the position of the block among the blocks of the data set, from 0.
        files: the images.
    """

    index: int
    files: tuple[ImageFile, ...]

    @property
    def size(self) -> int:
        """The number of images."""
        return len(self.files)

    def __str__(self) -> str:
        return f"block {self.index}"


def batches_of_block(batch: int) -> int:
    """Return how many batches a block has if nobody says, at a batch of so many images.

    It does not depend on how many workers there are, so that a run can be resumed with another number of them.
    """
    return max(LEAST_BLOCK_BATCHES, -(-LEAST_BLOCK_IMAGES // batch))


def cut_blocks(files: Sequence[ImageFile], images: int) -> list[Block]:
    """Return the files in blocks of so many images, in their order. The last block may have fewer."""
    return [
        Block(number, tuple(files[begin : begin + images])) for number, begin in enumerate(range(0, len(files), images))
    ]
