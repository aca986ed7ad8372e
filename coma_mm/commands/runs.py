"""List the runs under a folder: running, finished, stopped, or failed and why; how far they are, how good, the time left.

Reads what the runs have written, of any of the three libraries; it runs nothing and changes nothing.
"""
import argparse

from coma_mm.ranges import above

REGISTERS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('folder', nargs='?', default='work_dirs', metavar='DIR',
                        help='folder with runs, at any depth (default: %(default)s)')
    parser.add_argument('--watch', type=above(0), nargs='?', const=5., metavar='SECONDS',
                        help='print them anew every so many seconds, until Ctrl-C (default: 5)')


def run(args: argparse.Namespace) -> None:
    """List the runs."""
    from coma_mm.runs.listing import show
    show(args.folder, args.watch)
