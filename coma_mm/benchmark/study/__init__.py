"""Sequences of runs: what the demo and the study are made of."""
