"""What came of a case in one word: it was measured, or the kind of thing that kept it from that.

The words are `measured`, `unsupported`, `skipped`, `out_of_memory`, `crashed: SIGNAL`, `timeout`, `device_lost`,
`failed` and `unfinished`. They are read from how a process ended and what a failed test said.
"""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath

from harness.report.journal import FINDINGS

MEASURED, UNSUPPORTED, SKIPPED = "measured", "unsupported", "skipped"
OUT_OF_MEMORY, TIMEOUT, DEVICE_LOST, FAILED = "out_of_memory", "timeout", "device_lost", "failed"
# Begun and given up, or not begun, because the run was stopped.
UNFINISHED = "unfinished"
# What does not make a run fail.
WELL = (MEASURED, UNSUPPORTED, SKIPPED)
INTERRUPTED_STATUS = 130
INTERNAL_ERROR = 3

_MEMORY = re.compile(
    r"out of (?:device |host |gpu )?memory|OutOfMemory|MemoryError|(?:std::)?bad_alloc"
    r"|(?:can't|cannot|failed to) allocate memory|not enough memory"
    r"|OUT_OF_(?:HOST_|DEVICE_|RESOURCE_)?MEMORY|MEMORY_ALLOCATION|STATUS_ALLOC_FAILED"
    r"|Available memory of \d+ is smaller",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"fallen off the bus|device (?:is |was |has been )?(?:lost|removed)|DEVICE_LOST|GPU is lost"
    r"|devices?(?:\(s\))? (?:is|are|is/are) busy or unavailable|DevicesUnavailable|uncorrectable ECC"
    r"|no CUDA-capable device",
    re.IGNORECASE,
)
# Errors after which a device's context answers every further call with the same error.
_STICKY = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|misaligned address"
    r"|illegal instruction was encountered|launch timed out",
    re.IGNORECASE,
)
_FRAME = re.compile(r'Current thread [^\n]*\n\s*File "(?P<file>[^"\n]*)", line (?P<line>\d+) in (?P<function>\S+)')
_ENDS_AT_ONCE = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True)
class Ending:
    """How a process ended that was to measure cases.

    Attributes:
        status: its exit status; negative where a signal ended it.
        text: what it printed last.
        memory: what shows that the kernel killed it for want of memory, None if nothing does.
        hung_s: after how many seconds without an end of its case it was ended, None if it was not.
    """

    status: int
    text: str
    memory: str | None = None
    hung_s: float | None = None


def is_dead(status: int) -> bool:
    """Return whether a process was ended before pytest could end it; Ctrl-C ends one in order."""
    return status < 0 or (status > 128 and status != INTERRUPTED_STATUS)


def outcome_of_ending(ending: Ending) -> tuple[str, str]:
    """Return the outcome of the case in which a process ended too early, and the reason."""
    where = where_it_was(ending.text)
    at = f" in {where}" if where else ""
    if ending.hung_s is not None:
        return TIMEOUT, f"not at its end after {ending.hung_s:.0f} s{at}"
    name = _signal_name(ending.status)
    if name == "SIGKILL" and ending.memory is not None:
        return OUT_OF_MEMORY, ending.memory
    words = _MEMORY.search(ending.text[-4000:]) if name in {one.name for one in _ENDS_AT_ONCE} else None
    if words is not None:
        return OUT_OF_MEMORY, f"ended by {name} after {words.group(0)!r}{at}"
    if name == "SIGKILL":
        return "crashed: SIGKILL", "killed from outside, and nothing shows that memory was short"
    if name is not None:
        return f"crashed: {name}", f"its process ended{at}"
    lines = [line.strip() for line in ending.text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line or "ERROR" in line), "")
    return outcome_of_error("", said), f"its process ended with exit status {ending.status}{': ' if said else ''}{said}"


def outcome_of_error(error: str, text: str) -> str:
    """Return the outcome of a case whose test failed.

    Args:
        error: the name of the class of the error.
        text: its message.
    """
    if error in FINDINGS:  # what a proof says may hold any word
        return FAILED
    if _MEMORY.search(f"{error}: {text}"):
        return OUT_OF_MEMORY
    return DEVICE_LOST if _LOST.search(text) else FAILED


def needs_new_process(error: str, text: str) -> bool:
    """Return whether further cases in this process would fail too, or be measured in what memory is left."""
    is_typed = outcome_of_error(error, text) in (OUT_OF_MEMORY, DEVICE_LOST)
    return is_typed or (error not in FINDINGS and _STICKY.search(text) is not None)


def where_it_was(text: str) -> str:
    """Return the innermost line of Python of the last stack of `faulthandler` in a text; empty if there is none."""
    found = list(_FRAME.finditer(text))
    if not found:
        return ""
    frame = found[-1]
    return f"{frame['function']} ({PurePath(frame['file']).name}:{frame['line']})"


def _signal_name(status: int) -> str | None:
    """Return the name of the signal that ended a process, None if none did."""
    number = -status if status < 0 else status - 128
    if not is_dead(status):
        return None
    with suppress(ValueError):
        return signal.Signals(number).name
    return None
