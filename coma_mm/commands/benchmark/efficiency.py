"""Fig. 1 from collected runs and the paper's points; what the evaluation model costs in memory.

Writes efficiency.png, accuracy against epochs of pre-training with the time as the marker's size, and efficiency.md; with
--memory also memory.md: memory at the paper's scale, counted from shapes, and beside it the memory and time of training
steps that tools/benchmark.py speed measured last under WORK_DIRS/benchmark, if it did.
"""
import argparse

from ..arguments import add_collect_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_collect_arguments(parser)
    parser.add_argument('--dataset', help='data set whose accuracy is drawn (default: ImageNet-1K, or else the one '
                        'with most runs)')
    parser.add_argument('--memory', action='store_true', help='also count the memory of pre-training; a minute')
