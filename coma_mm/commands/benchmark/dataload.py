"""Images per second of a config's training data, against mmpretrain's default pipeline on the same files.

For each number of worker processes the two load in turn, several times; shown are medians, and the median of the ratios of
neighbours. The first batches, which workers prepare before time is taken, do not count. Workers compute with one thread
each. With 0 workers the main process loads, and its processor time is taken too, which a busy machine disturbs less. With
--step, a step of that many milliseconds follows each batch in a second pass, and what it waits for its data is measured.

A peer needs image files: where the config reads a pack, give their folder by --files.
"""
import argparse

from coma_mm.ranges import number, whole

from ..arguments import add_config_arguments, out_file, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', metavar='CONFIG')
    add_config_arguments(parser)
    parser.add_argument('--files', metavar='PATH', help="folder of image files for mmpretrain's pipeline (default: those "
                        'of the config)')
    parser.add_argument('--workers', type=workers(0), nargs='+', default=[0, 1, 2], metavar='N',
                        help='numbers of worker processes (default: 0 1 2)')
    parser.add_argument('--batches', type=whole(1), default=10, metavar='N', help='batches that are timed (default: 10)')
    parser.add_argument('--repeats', type=whole(1), default=5, metavar='N', help='how often each is measured (default: 5)')
    parser.add_argument('--step', type=number(0), metavar='MS', help='length of a training step that waits for batches')
    parser.add_argument('--out', type=out_file, metavar='FILE.json', help='write the measurements to a file')
