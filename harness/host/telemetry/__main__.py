"""`python -m harness.host.telemetry`: the collector."""

from harness.host.telemetry.command import main

main()
