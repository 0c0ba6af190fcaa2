"""Owns the Triton server: finding and starting it, its models and its clients. Must not know pytest or jobs."""
