"""Owns work in processes of its own, and who starts, watches and ends them. Must not know pytest or servers."""
