"""`python -m harness.telemetry`: the collector, under the name that the documents give it."""

from harness.host.telemetry.command import main

if __name__ == "__main__":
    main()
