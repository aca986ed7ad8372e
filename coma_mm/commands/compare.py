"""Put runs side by side: the settings that differ, their metrics at the same epochs, the time they took.

A run is named by its work_dir, or by a checkpoint in it, whose epoch is marked then. Runs may be of any of the three
libraries.
"""
import argparse

REGISTERS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('runs', nargs='+', metavar='RUN', help='two or more: work_dir of a run, or a checkpoint in it')
    parser.add_argument('--metric', metavar='NAME', help='whose values are shown by epoch (default: the first run\'s own)')


def run(args: argparse.Namespace) -> None:
    """Compare."""
    from coma_mm.runs.comparing import show
    show(args.runs, args.metric)
