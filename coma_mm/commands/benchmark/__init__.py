"""Measure, and compare with the paper and its peers. Each subcommand has a help text of its own."""
import argparse
from importlib import import_module

from coma_mm.commands import add_commands

COMMANDS = dict(ablation='paper', collect='paper', complexity='counting', coverage='paper', dataload='speed',
                efficiency='paper', gradients='study', report='paper', speed='speed', tables='paper', traffic='speed')
"""The subcommands, and in which room of `coma_mm.benchmark` the module of the same name does the work."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands; a module here has the help text and the arguments of one."""
    add_commands(parser, __name__, COMMANDS)


def run(args: argparse.Namespace) -> None:
    """Run a subcommand."""
    import_module(f'coma_mm.benchmark.{COMMANDS[args.command]}.{args.command}').run(args)
