"""Fetches data sets behind a URL once into a folder of the cache, through fsspec."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from harness.data.images import NoImages
from harness.data.kept import kept_folder
from harness.files import whole_folder

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)


def is_url(name: str) -> bool:
    """Return whether fsspec has to open the name, as for `gs://…`, `s3://…` and `zip://…::https://…`."""
    return _URL.match(name) is not None


def fetch(url: str, cache: Path, report: Callable[[str], None]) -> Path:
    """Return the folder that holds what lies at `url`, which is fetched if it has not been before.

    The folder appears whole or not at all.

    Raises:
        NoImages: if the URL cannot be opened, or if a package that it needs is not installed.
    """
    from fsspec.core import url_to_fs

    place = kept_folder(cache, url)
    if place.is_dir():
        return place
    try:
        file_system, path = url_to_fs(url)
        if not file_system.isdir(path):
            raise NoImages(f"{url} is no folder")
        report(f"fetching {url}, once, to {place}")
        with whole_folder(place) as part:
            file_system.get(path.rstrip("/") + "/", f"{part}/", recursive=True)
    except (ImportError, ValueError) as error:
        if isinstance(error, NoImages):
            raise
        raise NoImages(f"{url}: {error} (gs:// needs the package gcsfs, s3:// s3fs)") from error
    except OSError as error:
        raise NoImages(f"{url} cannot be fetched: {error or type(error).__name__}") from error
    return place
