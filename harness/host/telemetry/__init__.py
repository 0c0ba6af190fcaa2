"""What the machine did while something was measured: sampled by a process of its own, told when by a socket.

The protocol is the FBNet sample's: a stream socket in the file system, one connection a command, the ASCII words
`start`, `stop` and `kill` without a newline and without a reply. This package imports neither torch nor pytest.
"""

# Columns of every sample: the clock that all processes share, and the time of day.
CLOCK, WALL = "clock (s)", "time (s)"
