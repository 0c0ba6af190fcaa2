"""Whether the kernel killed a process for want of memory, as far as the kernel's own counters show it.

SIGKILL alone does not say who sent it: a scheduler, a person and the kernel's out-of-memory killer all use it. The
kernel counts the processes that it killed for each control group (`memory.events`, or `memory.oom_control` of version
1) and for the machine (`/proc/vmstat`). Where neither is told, how little memory was left just before is the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.host.cgroups import group_folders

# Memory is as good as gone where less than this share of it was left half a second before the kill.
SCARCE_PCT = 5.0
# The limit of a control group of version 1 without a limit is about the largest number of pages.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class MemoryReading:
    """What the kernel says of memory.

    Attributes:
        group_kills: how many processes of this control group it killed for want of memory, None where it does not tell.
        machine_kills: the same of the machine.
        free_pct: what share of the memory is left, of the machine's or of a control group's limit, the least of them;
            None where it is not told.
    """

    group_kills: int | None
    machine_kills: int | None
    free_pct: float | None


def read_memory(root: Path = Path("/")) -> MemoryReading:
    """Return what the kernel says now. Nothing is raised where it does not tell.

    Args:
        root: the folder in which `proc` and `sys` lie.
    """
    folders = list(group_folders("memory", root))
    shares = [_machine_free_pct(root), *map(_group_free_pct, folders)]
    counts = [count for folder in folders if (count := _group_kills(folder)) is not None]
    return MemoryReading(
        counts[0] if counts else None,
        _number(_table(root / "proc/vmstat").get("oom_kill")),
        min((share for share in shares if share is not None), default=None),
    )


def killed_for_memory(before: MemoryReading, last: MemoryReading, after: MemoryReading) -> str | None:
    """Return what shows that a process that ended by SIGKILL was killed for want of memory, or None.

    Args:
        before: read before the process began.
        last: read last while it ran.
        after: read after its end.
    """
    for where, first, now in (
        ("of its control group", before.group_kills, after.group_kills),
        ("of this machine", before.machine_kills, after.machine_kills),
    ):
        if first is not None and now is not None and now > first:
            return f"the kernel's count of out-of-memory kills {where} rose from {first} to {now}"
    if last.free_pct is not None and last.free_pct < SCARCE_PCT:
        return f"{last.free_pct:.1f}% of the memory was left just before it was killed"
    return None


def _machine_free_pct(root: Path) -> float | None:
    found = _table(root / "proc/meminfo")
    total, free = _number(found.get("MemTotal:")), _number(found.get("MemAvailable:"))
    return 100 * free / total if total and free is not None else None


def _group_free_pct(folder: Path) -> float | None:
    """Return the share of a group's limit that is left, not counting files that the kernel can drop."""
    for limit_file, used_file in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        limit, used = _number(_text(folder / limit_file)), _number(_text(folder / used_file))
        if limit is None or used is None or not 0 < limit < _NO_LIMIT:
            continue
        stat = _table(folder / "memory.stat")
        files = _number(stat.get("total_inactive_file", stat.get("inactive_file"))) or 0
        return 100 * max(0, limit - used + files) / limit
    return None


def _group_kills(folder: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        if (count := _number(_table(folder / name).get("oom_kill"))) is not None:
            return count
    return None


def _table(path: Path) -> dict[str, str]:
    """Return the first two words of each line."""
    lines = [line.split() for line in (_text(path) or "").splitlines()]
    return {words[0]: words[1] for words in lines if len(words) > 1}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
