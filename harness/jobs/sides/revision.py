"""Another revision of this checkout, as a worktree of git that is removed again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoRevision(ValueError):
    """git does not know the revision, or the folder is no checkout of git."""


def commit_of(revision: str, checkout: Path) -> str:
    """Return the commit that a revision stands for.

    Raises:
        NoRevision: there is none; the message has git's words.
    """
    if revision.startswith("-"):
        raise NoRevision(f"rev={revision}: a revision does not begin with a dash")
    return _git(f"rev={revision}", checkout, "rev-parse", "--verify", f"{revision}^{{commit}}")


@contextmanager
def worktree(commit: str, checkout: Path, folder: Path) -> Iterator[Path]:
    """A worktree of a commit in `folder / "checkout"`, which is removed when the block ends.

    Raises:
        NoRevision: git cannot make it.
    """
    place = folder / "checkout"
    _git(f"rev={commit}", checkout, "worktree", "add", "--detach", "--quiet", str(place), commit)
    try:
        yield place
    finally:
        _git(f"rev={commit}", checkout, "worktree", "remove", "--force", str(place))


def _git(source: str, checkout: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoRevision(f"{source} needs git: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"git ended with {done.returncode}"]
        raise NoRevision(f"{source}: {lines[-1]}")
    return done.stdout.strip()
