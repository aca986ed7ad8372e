"""Train in several processes, one per GPU (or per CPU share, without GPUs): CONFIG PROCESSES [arguments of train].

The environment variables NNODES, MASTER_ADDR, PORT, NODE_RANK, RDZV_ID and MAX_RESTARTS are those of tools/dist_train.sh,
which this command starts.
"""
import argparse
import os
import sys

from coma_mm.files import MIM

SCRIPT = 'dist_train.sh'
REGISTERS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('arguments', nargs=argparse.REMAINDER, metavar='CONFIG … PROCESSES …',
                        help='what the script of the same name takes')


def run(args: argparse.Namespace, script: str = SCRIPT) -> None:
    """Start the script in the place of this process."""
    os.environ.setdefault('PYTHON', sys.executable)
    os.execvp('bash', ['bash', str(MIM / 'tools' / script), *args.arguments])
