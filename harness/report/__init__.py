"""Owns what is made of records: rows, choices, files. It reads dicts, and must not know how they were measured."""
