"""What a model answers to a batch: a tuple of named arrays. A classifier has one, a detector several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

Array = npt.NDArray[Any]
# What a module gives that says nothing else: it is a classifier.
CLASSIFIER_OUTPUTS = ("logits",)


def output_names(module: nn.Module) -> tuple[str, ...]:
    """The names of what a module gives, in the order of its `forward`.

    A module with several outputs, or with one of another meaning, has the attribute `output_names`; a module without
    the attribute gives `logits`.
    """
    return tuple(getattr(module, "output_names", CLASSIFIER_OUTPUTS))


class Outputs:
    """Named arrays [n, …] on the host, one for each output, all of the same n images."""

    __slots__ = ("_arrays", "names")

    def __init__(self, names: Iterable[str], arrays: Iterable[Array]) -> None:
        """Pair names with arrays.

        Raises:
            ValueError: there are more of one than of the other.
        """
        self.names = tuple(names)
        self._arrays = tuple(arrays)
        if len(self.names) != len(self._arrays):
            raise ValueError(f"{len(self._arrays)} outputs for the names {', '.join(self.names)}")

    def __getitem__(self, name: str) -> Array:
        """The array of that name.

        Raises:
            KeyError: there is none.
        """
        try:
            return self._arrays[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no output {name!r}; there are {', '.join(self.names)}") from None

    def __iter__(self) -> Iterator[Array]:
        """The arrays, in the order of the names."""
        return iter(self._arrays)

    def __len__(self) -> int:
        """How many images these are the answers to."""
        return len(self._arrays[0])

    def first(self, count: int) -> Outputs:
        """The answers to the first `count` images. The arrays are views of these."""
        return Outputs(self.names, (array[:count] for array in self._arrays))

    def copy(self) -> Outputs:
        """The same numbers in memory of their own."""
        return Outputs(self.names, (array.copy() for array in self._arrays))

    @staticmethod
    def join(parts: Sequence[Outputs]) -> Outputs:
        """The answers of several batches, one batch behind the other.

        Raises:
            ValueError: there are no parts, or their arrays do not fit together.
        """
        return Outputs(parts[0].names, (np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
