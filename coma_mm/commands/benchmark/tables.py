"""The paper's Tables 1 to 4 with our results beside them, and the small scale's; as Markdown, HTML, LaTeX and CSV.

A cell shows the mean over the seeds of finished runs of the same settings, and its 95 % confidence interval; runs with other
settings have a line of their own, which names the difference. What is not finished or diverged is counted, not averaged.
"""
import argparse

from ..arguments import add_collect_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_collect_arguments(parser)
    parser.add_argument('--write', action='store_true',
                        help='renew the results in README.md and docs/benchmark.md from docs/results/runs.csv instead')
