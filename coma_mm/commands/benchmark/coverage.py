"""Fig. 2: how often each patch is reconstructed, and how often it teaches, by mask sampler and `complement` mode.

Masks are drawn as in training: one image in every epoch, each epoch's mask a function of (seed, epoch, sample index).
What a mode makes of a mask is not assumed but read off the loss of a small model, see `patches_that_teach`.
"""
import argparse

from coma_mm.ranges import SEED, above, whole

from ..arguments import out_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--iterations', type=whole(1), default=1600, metavar='N', help='default: %(default)s, as Fig. 2')
    parser.add_argument('--ratio', type=above(0, 1, below=True), default=0.6,
                        help='share of masked patches (default: %(default)s)')
    parser.add_argument('--size', type=whole(1), default=224, metavar='PX', help='side of the image (default: %(default)s)')
    parser.add_argument('--patch-size', type=whole(1), default=32, metavar='PX', help='default: %(default)s')
    parser.add_argument('--seed', type=SEED, default=0, help='default: %(default)s')
    parser.add_argument('--out', type=out_folder, default='work_dirs/benchmark', metavar='DIR',
                        help='folder for coverage.png, coverage.csv and coverage.md (default: %(default)s)')
