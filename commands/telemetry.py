"""`visionmark telemetry --socket PATH --output DIR`: the collector of telemetry."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.telemetry import command


def main(arguments: Sequence[str]) -> int:
    """Collect until told to end. Returns 0."""
    command.main(arguments)
    return 0
