#!/usr/bin/env python
"""Measure, and compare with the paper and its peers. Each subcommand has a help text of its own."""
import argparse
import ast
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that a checkout runs without being installed

# Modules of coma_mm.benchmark.
COMMANDS = ('paper.ablation', 'paper.collect', 'counting.complexity', 'paper.coverage', 'speed.dataload', 'paper.efficiency',
            'paper.report', 'speed.speed', 'paper.tables')


def parse():
    """Read the command line. Only the module of its subcommand is imported, and none for --help, as that takes seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for path in COMMANDS:
        room, name = path.split('.')
        doc = ast.get_docstring(ast.parse((ROOT / f'coma_mm/benchmark/{room}/{name}.py').read_text(encoding='utf-8')))
        subparser = subparsers.add_parser(name, description=doc, help=doc.splitlines()[0],
                                          formatter_class=argparse.RawDescriptionHelpFormatter)
        if sys.argv[1:2] == [name]:
            module = import_module(f'coma_mm.benchmark.{path}')
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser.parse_args()


def main():
    """Run the subcommand."""
    args = parse()
    from coma_mm.engine import cli
    cli.main(lambda: args.run(args))


if __name__ == '__main__':
    main()
