"""Benchmarks of the harness itself, run by `make bench-harness`. They print their figures and assert nothing."""
