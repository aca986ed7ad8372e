"""Runs of any of the three libraries as their folders tell: what they are, how far they came, how they differ.

Nothing here imports torch or the libraries, and nothing of a folder is run, so that a list of runs is there at once.
"""
