"""Measure, and compare with the paper and its peers. Each subcommand has a help text of its own."""
import argparse

from coma_mm.commands import add_commands

COMMANDS = ('ablation', 'collect', 'complexity', 'coverage', 'dataload', 'efficiency', 'report', 'speed', 'tables')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    add_commands(parser, __name__, COMMANDS)
