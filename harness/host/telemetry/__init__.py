"""Telemetry: a process of its own samples what the machine does while something is measured.

A socket tells that process when to start and stop. The protocol is the FBNet sample's: a stream socket in the file
system, one connection per command, and the ASCII words `start`, `stop` and `kill`, without a newline and without a
reply. This package imports neither torch nor pytest.
"""

# The columns of every sample: the clock that all processes share, and the time of day.
CLOCK, WALL = "clock (s)", "time (s)"
