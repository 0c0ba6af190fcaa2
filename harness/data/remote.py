"""Fetches data sets behind a URL into a folder of the cache, through fsspec.

What is fetched is kept. A bucket may change under its name, so its listing (names, sizes, etags) is kept beside the
folder and compared each time: what differs is fetched again. Other URLs are believed once they are fetched, because a
web server lists nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from harness.data.images import NoImages
from harness.data.kept import kept_folder
from harness.files import whole_folder, write_whole

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)
_BUCKETS = ("gs", "gcs", "s3", "s3a")
# Clients of buckets repeat what fails for minutes. Within this time a bucket says whether it is there.
ANSWERS_WITHIN_S = 25.0
# The names under which the clients give what tells one content of an object from another, the best first.
_TAGS = ("etag", "ETag", "md5Hash", "crc32c", "generation", "mtime", "LastModified")

Listing = dict[str, list[str]]
_Answer = TypeVar("_Answer")


def is_url(name: str) -> bool:
    """Return whether fsspec has to open the name, as for `gs://…`, `s3://…` and `zip://…::https://…`."""
    return _URL.match(name) is not None


def fetch(url: str, cache: Path, report: Callable[[str], None]) -> Path:
    """Return the folder that holds what lies at `url`, fetched if it is new or, in a bucket, has changed.

    The folder appears whole or not at all.

    Raises:
        NoImages: if the URL cannot be opened, or if a package that it needs is not installed.
    """
    place = kept_folder(cache, url)
    is_bucket = url.partition("://")[0].lower() in _BUCKETS
    if place.is_dir() and not is_bucket:
        return place
    try:
        file_system, path = answered(lambda: _opened(url), url)
        if not is_bucket:
            report(f"fetching {url}, once, to {place}")
            with whole_folder(place) as part:
                file_system.get(path.rstrip("/") + "/", f"{part}/", recursive=True)
            return place
        _fetch_changed(file_system, path.rstrip("/"), place, lambda what: report(f"{what} {url}, to {place}"))
    except NoImages:
        raise
    except (ImportError, ValueError) as error:
        raise NoImages(f"{url}: {error} (gs:// needs the package gcsfs, s3:// s3fs)") from error
    # Each client raises what it likes: OSError, aiohttp's and botocore's errors, which share Exception alone.
    except Exception as error:
        raise NoImages(f"{url} cannot be fetched: {_first_line(error)}") from error
    return place


def answered(ask: Callable[[], _Answer], url: str, within_s: float = ANSWERS_WITHIN_S) -> _Answer:
    """Return what a call returns that asks whether a URL is there.

    Raises:
        NoImages: it has not returned in time.
    """
    found: SimpleQueue[tuple[_Answer | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            found.put((ask(), None))
        except BaseException as error:  # noqa: B036 - handed to the waiting thread, which raises it
            found.put((None, error))

    # a daemon: a client that never gives up is left behind when the run ends
    thread = threading.Thread(target=run, name="fetch", daemon=True)
    thread.start()
    thread.join(within_s)
    if thread.is_alive():
        raise NoImages(
            f"{url} has not answered within {within_s:g} s: look at its name, the network and the credentials"
        )
    answer, error = found.get()
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _opened(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    file_system, path = url_to_fs(url, **_settings(url))
    file_system.invalidate_cache()
    if not file_system.isdir(path):
        raise NoImages(f"{url} is no folder that can be listed: look at its name, the network and the credentials")
    return file_system, path


def _fetch_changed(file_system: Any, path: str, place: Path, report: Callable[[str], None]) -> None:
    """Fetch what the kept folder lacks or has in another version; what has not changed is kept."""
    listed = _listing(file_system, path)
    if not listed:
        raise NoImages(f"{path} holds no objects")
    kept_listing = place.with_suffix(".listing.json")
    before = _read_listing(kept_listing) if place.is_dir() else {}
    if before == listed:
        return
    new = [name for name, version in listed.items() if before.get(name) != version]
    report(f"fetching {len(new)} of the {len(listed)} objects of" if before else "fetching")
    kept_listing.unlink(missing_ok=True)  # from here on until the end it is not true of the folder
    with whole_folder(place) as part:
        for name in listed:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
        for name in listed.keys() - set(new):
            _keep(place / name, part / name)
        if new:
            file_system.get([f"{path}/{name}" for name in new], [str(part / name) for name in new])
    write_whole(kept_listing, json.dumps(listed))


def _keep(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        shutil.copy2(old, new)


def _listing(file_system: Any, path: str) -> Listing:
    """Return the size and the tag of every object, by its name below the path."""
    found: Listing = {}
    for name, about in file_system.find(path, detail=True).items():
        size = about.get("size", about.get("Size"))
        tag = next((about[key] for key in _TAGS if about.get(key) is not None), None)
        below = name.removeprefix(path).lstrip("/")
        # a folder that a browser made is an object too, whose name ends with a slash
        if below and not below.endswith("/") and ".." not in Path(below).parts:
            found[below] = [str(size), str(tag)]
    return dict(sorted(found.items()))


def _read_listing(path: Path) -> Listing:
    try:
        listing: Listing = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return listing


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _settings(url: str) -> dict[str, Any]:
    """Return what fsspec is told: for HTTP, also below another protocol, to obey the proxies of the environment.

    aiohttp obeys `http_proxy`, `https_proxy` and `no_proxy` only when it is asked to.
    """
    settings = {"client_kwargs": {"trust_env": True}}
    protocols = {part.partition("://")[0].lower() for part in url.split("::")}
    if "::" not in url:
        return settings if protocols & {"http", "https"} else {}
    return {protocol: settings for protocol in ("http", "https") if protocol in protocols}
