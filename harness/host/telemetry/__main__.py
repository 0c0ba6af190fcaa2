"""Runs the telemetry collector: `python -m harness.host.telemetry`."""

from harness.host.telemetry.command import main

main()
