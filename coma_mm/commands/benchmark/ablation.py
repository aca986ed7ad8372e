"""Fig. 5 from collected runs: masking ratio, reconstruction loss by decoder, decoder depth.

Writes ablation.png, and ablation.md with the same numbers. A panel without runs says how to get some; the paper-scale ones
are in docs/recipes.md, a small counterpart on CoMA-Shapes in docs/benchmark.md.
"""
import argparse

from ..arguments import add_collect_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_collect_arguments(parser)
    parser.add_argument('--dataset', help='data set whose accuracy is drawn (default: ImageNet-1K, or else the one '
                        'with most runs)')
