"""Owns the measurements, one file each: the record, and what the clock encloses. Must not know pytest or servers."""
