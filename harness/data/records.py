"""Reads the examples of TF-record files one by one, with the place of each, so that its image can stay in the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.data.images import NoImages

_LENGTH_AND_CRC_BYTES, _CRC_BYTES = 12, 4  # before and behind each record


@dataclass(frozen=True)
class Example:
    """One example of a TF-record file.

    Attributes:
        path: the file.
        start: the place of the example in it, in bytes.
        features: its features by name.
        opener: returns its `image/encoded`; it can be called in another process.
    """

    path: Path
    start: int
    features: Any
    opener: Callable[[], bytes]

    def text(self, key: str) -> str:
        """Return the first text of a feature; empty if there is none."""
        values = self.features[key].bytes_list.value if key in self.features else ()
        return values[0].decode() if values else ""


def read_examples(paths: Sequence[Path], report: Callable[[str], None]) -> Iterator[Example]:
    """Yield every example of the files, in their order.

    Raises:
        NoImages: if a file is cut off or no TF-record file, or if the package that reads them is not installed.
    """
    try:
        from tfrecord import example_pb2
        from tfrecord.reader import tfrecord_iterator
    except ImportError as error:
        raise NoImages(f"TF-record shards need the package tfrecord ({error}): pip install tfrecord") from error

    for number, path in enumerate(paths, start=1):
        report(f"indexing {path.name}, {number} of {len(paths)}")
        offset = 0
        with _closed_at_its_end(tfrecord_iterator(str(path))) as records:
            while True:
                try:
                    record = next(records, None)
                    if record is None:
                        break
                    start = offset + _LENGTH_AND_CRC_BYTES
                    offset = start + len(record) + _CRC_BYTES
                    features = example_pb2.Example.FromString(bytes(record)).features.feature
                except (RuntimeError, ValueError, MemoryError) as error:
                    raise NoImages(f"{path} is cut off or no TF-record file, at byte {offset}: {error}") from error
                except Exception as error:  # protobuf's DecodeError, which derives from Exception alone
                    if type(error).__name__ != "DecodeError":
                        raise
                    raise NoImages(f"{path} holds no tf.train.Example at byte {offset}") from error
                yield Example(path, start, features, partial(_encoded, path, start, len(record)))


@contextmanager
def _closed_at_its_end(records: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Run the records to their end when they are left early, for the package closes the file only there."""
    try:
        yield records
    finally:
        with suppress(RuntimeError, ValueError, MemoryError):
            deque(records, maxlen=0)


def _encoded(path: Path, start: int, length: int) -> bytes:
    from tfrecord import example_pb2

    with path.open("rb") as file:
        file.seek(start)
        record = file.read(length)
    encoded: bytes = example_pb2.Example.FromString(record).features.feature["image/encoded"].bytes_list.value[0]
    return encoded
