"""Owns the measurements, one file each: the record, and what is timed for it. Must not know pytest or servers."""
