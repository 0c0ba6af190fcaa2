"""Owns work in separate processes, and how these are started, watched and ended. Must not know pytest or servers."""
