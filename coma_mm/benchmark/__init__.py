"""Measurements and their tables: the library of tools/benchmark.py."""
