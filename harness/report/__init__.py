"""Owns what is made of records, read as dicts: rows, choices, files. Must not know how the records were measured."""
