"""One HTML file with all of it: tables beside the paper's, figures, reconstructions, models, runs.

It needs no network and no other file; its links to configs, logs and checkpoints work where it lies beside the runs.
"""
import argparse

from ..arguments import add_collect_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_collect_arguments(parser, 'report.html')
