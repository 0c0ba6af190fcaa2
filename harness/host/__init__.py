"""Owns the description of the machine: cores, threads, versions, telemetry. Must not know devices or engines."""
