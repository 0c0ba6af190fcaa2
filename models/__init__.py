"""Owns what is measured: catalogue, modules, weights, preprocessing, tasks. Must not know devices or engines."""
