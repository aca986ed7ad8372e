"""Find the runs under work_dirs and write their results to one file, a row for each run and metric.

What a run is and which cell of the paper's tables it belongs to is read from the config that it dumped and from its
provenance.json, never from the names of folders; its numbers are those of mmengine's vis_data/scalars.json.
"""
import argparse

from ..arguments import add_collect_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_collect_arguments(parser, 'runs.csv')
