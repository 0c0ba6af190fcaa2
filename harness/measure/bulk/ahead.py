"""Decoding ahead: while the model works on the end of one block, the first images of the next are decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from harness.data import ImageFile


class DecodingAhead(Executor):
    """A pool of threads which, when the last image of a block is submitted, goes on with the first of the next.

    Without it the threads would stand still from then until the next block is begun, and the device after that.
    """

    def __init__(self, pool: Executor, images: int) -> None:
        """Use these threads, and decode up to so many images of the next block ahead."""
        self._pool = pool
        self._images = images
        self._left = 0
        self._next: Sequence[ImageFile] = ()
        self._begun: dict[int, Future[Any]] = {}

    def begin(self, files: Sequence[ImageFile]) -> None:
        """Note that these images are submitted from now on, each once."""
        self._left = len(files)

    def expect(self, files: Sequence[ImageFile]) -> None:
        """Note that these images come after the present ones: the very objects that will be submitted."""
        self._next = files[: self._images]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the result of the function for an image, which may have been begun already."""
        future = self._begun.pop(id(args[0]), None) or self._pool.submit(fn, *args, **kwargs)
        self._left -= 1
        if self._left == 0:
            self._begun = {id(file): self._pool.submit(fn, file) for file in self._next}
            self._next = ()
        return future
