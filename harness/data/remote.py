"""Fetches data sets behind a URL once into a folder of the cache, through fsspec."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        file_system, path = url_to_fs(url, **_settings(url))
        if not file_system.isdir(path):
            raise NoImages(f"{url} is no folder")
        report(f"fetching {url}, once, to {place}")
        with whole_folder(place) as part:
            file_system.get(path.rstrip("/") + "/", f"{part}/", recursive=True)
    except NoImages:
        raise
    except (ImportError, ValueError) as error:
        raise NoImages(f"{url}: {error} (gs:// needs the package gcsfs, s3:// s3fs)") from error
    # Each client raises what it likes: OSError, aiohttp's and botocore's errors, which share Exception alone.
    except Exception as error:
        raise NoImages(f"{url} cannot be fetched: {str(error) or type(error).__name__}") from error
    return place


def _settings(url: str) -> dict[str, Any]:
    """Return what fsspec is told: for HTTP, also below another protocol, to obey the proxies of the environment.

    aiohttp obeys `http_proxy`, `https_proxy` and `no_proxy` only when it is asked to.
    """
    settings = {"client_kwargs": {"trust_env": True}}
    protocols = {part.partition("://")[0].lower() for part in url.split("::")}
    if "::" not in url:
        return settings if protocols & {"http", "https"} else {}
    return {protocol: settings for protocol in ("http", "https") if protocol in protocols}
