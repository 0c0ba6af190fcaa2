"""The subcommand `visionmark telemetry --socket PATH --output DIR`, which runs the telemetry collector."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.telemetry import command


def main(arguments: Sequence[str]) -> int:
    """Run the collector until it is told to end, and return 0."""
    command.main(arguments)
    return 0
