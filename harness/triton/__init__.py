"""Owns the Triton server: finding, starting, what it serves, who asks it. Must not know pytest or jobs."""
