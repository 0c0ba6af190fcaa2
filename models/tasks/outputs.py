"""The outputs of a model for a batch, as named arrays. A classifier has one output, a detector has several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

Array = npt.NDArray[Any]
# The outputs of a module that does not name its outputs: it is a classifier.
CLASSIFIER_OUTPUTS = ("logits",)


def output_names(module: nn.Module) -> tuple[str, ...]:
    """Return the names of a module's outputs, in the order of its `forward`.

    A module with several outputs, or with one of another meaning, has the attribute `output_names`. A module without
    the attribute has the one output `logits`.
    """
    return tuple(getattr(module, "output_names", CLASSIFIER_OUTPUTS))


class Outputs:
    """Named arrays [n, …] on the host, one for each output, all of the same n images."""

    __slots__ = ("_arrays", "names")

    def __init__(self, names: Iterable[str], arrays: Iterable[Array]) -> None:
        """Pair names with arrays.

        Raises:
            ValueError: if there are more of one than of the other.
        """
        self.names = tuple(names)
        self._arrays = tuple(arrays)
        if len(self.names) != len(self._arrays):
            raise ValueError(f"{len(self._arrays)} outputs for the names {', '.join(self.names)}")

    def __getitem__(self, name: str) -> Array:
        """Return the array of that name.

        Raises:
            KeyError: if there is none.
        """
        try:
            return self._arrays[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self.names)}") from None

    def __iter__(self) -> Iterator[Array]:
        """Iterate over the arrays, in the order of the names."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """Return the number of images to which these are the answers."""
        return len(self._arrays[0])

    def first(self, count: int) -> Outputs:
        """Return the answers to the first `count` images, as views of the present arrays."""
        return Outputs(self.names, (array[:count] for array in self._arrays))

    def rows(self, indices: Sequence[int]) -> Outputs:
        """Return the answers to the images with these indices."""
        return Outputs(self.names, (array[list(indices)] for array in self._arrays))

    def copy(self) -> Outputs:
        """Return the same numbers in memory of their own."""
        return Outputs(self.names, (array.copy() for array in self._arrays))

    @staticmethod
    def join(parts: Sequence[Outputs]) -> Outputs:
        """Return the answers of several batches, one batch behind the other.

        Raises:
            IndexError: if there are no parts.
            ValueError: if the arrays of the parts do not fit together.
        """
        return Outputs(parts[0].names, (np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
