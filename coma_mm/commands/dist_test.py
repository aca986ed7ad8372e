"""Test in several processes, one per GPU: CONFIG CHECKPOINT PROCESSES [arguments of test]."""
import argparse

from . import dist_train
from .dist_train import add_arguments  # noqa: F401

REGISTERS = False


def run(args: argparse.Namespace) -> None:
    """Start tools/dist_test.sh in the place of this process."""
    dist_train.run(args, 'dist_test.sh')
