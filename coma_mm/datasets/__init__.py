"""Data sets and data pipelines."""
