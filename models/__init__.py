"""Owns what is measured: the catalogue, modules, weights, preprocessing, tasks. Must not know devices, engines, pytest."""
