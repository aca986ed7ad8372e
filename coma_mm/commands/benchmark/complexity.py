"""Parameters, operations and memory of models, and on request their speed, in one table.

A model is a config of any of the three libraries, which gives two rows, its backbone alone on whole images and the whole
model in a training step, or one of the backbones that have names. Shapes alone pass through the models: a batch of 512
takes no longer than one of 1, and no more memory; --latency alone computes.
"""
import argparse

from coma_mm.benchmark.counting.peers import OF_TABLE_2, PEERS
from coma_mm.ranges import whole

from ..arguments import out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('models', nargs='*', metavar='CONFIG|NAME',
                        help=f'names: {" ".join(PEERS)} (default: {" ".join(OF_TABLE_2)})')
    parser.add_argument('--size', type=whole(1), default=224, help='side of the images in px (default: %(default)s)')
    parser.add_argument('--batch-size', type=whole(1),
                        help="images (default: those of a process in the config; 1 for a name)")
    parser.add_argument('--latency', action='store_true', help='also time forward passes, which computes them')
    parser.add_argument('--out', type=out_file, metavar='FILE', help='write the table: .md, or .csv with raw numbers')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='settings that replace those of the configs')
