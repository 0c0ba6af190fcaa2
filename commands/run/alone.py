"""What one supervised run has to itself: its journal, its file of results, and the signals that stop it."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from commands.run.supervisor import LOGS
from harness.report.journal import JournalFile


@contextmanager
def journal_of_our_own(path: Path, *, is_new: bool) -> Iterator[None]:
    """Open the journal for this run alone. That of an earlier run is renamed if a new one is to be begun.

    Raises:
        BlockingIOError: another run is writing it.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as before:
        fcntl.flock(before, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_new and path.stat().st_size:
            file = JournalFile(path, is_new=True)
            file.drop_oldest()
            file.close()
        with path.open("a", encoding="utf-8") as ours:
            if not os.path.sameopenfile(before.fileno(), ours.fileno()):
                fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def journal_beside(out: Path) -> Path:
    """Return where the journal of a file of results is. No other file of results has it, whatever it is called."""
    return out.with_name(f"{out.name.removesuffix('.json')}.jsonl")


def logs_beside(out: Path) -> Path:
    """Return the folder for what the processes of a file of results print."""
    return out.with_name(f"{out.name.removesuffix('.json')}.logs")


def set_aside(out: Path, *, is_new: bool) -> None:
    """Rename the file of an earlier run, so that it is not read as that of this one; it goes once this one is there.

    The logs of its processes are deleted.
    """
    if not is_new:
        return
    if out.is_file():
        out.replace(out.with_name(f"{out.name}.before"))
    for log in logs_beside(out).glob(LOGS):
        log.unlink()


@contextmanager
def signals_heard(stop: Callable[[int], None]) -> Iterator[None]:
    """Hand the first SIGTERM or SIGINT to a function; a second one ends the run at once."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        stop(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
