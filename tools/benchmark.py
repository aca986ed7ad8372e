#!/usr/bin/env python
"""Measure, and compare with the paper and its peers. Each subcommand has a help text of its own."""
import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402

# Modules of coma_mm.benchmark.
COMMANDS = ('ablation', 'collect', 'complexity', 'coverage', 'dataload', 'efficiency', 'report', 'speed', 'tables')


def main():
    """Run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name in COMMANDS:
        module = import_module(f'coma_mm.benchmark.{name}')
        subparser = subparsers.add_parser(name, description=module.__doc__, help=module.__doc__.splitlines()[0],
                                          formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    args = parser.parse_args()
    args.run(args)


if __name__ == '__main__':
    cli.main(main)
