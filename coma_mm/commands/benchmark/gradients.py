"""How much a complementary second mask could teach, from the gradients of fixed weights; no training.

Half of the patches are masked. For each image gradients of the backbone are taken under several masks and their complements,
and their variance is split into that between images and that between masks of an image. What a complement saves over an
independent second mask is printed with 95 % intervals over images: as a share of the variance of a gradient from two masks,
and against the squared mean gradient at several numbers of images per update.
"""
import argparse

from coma_mm.ranges import SEED, whole

from ..arguments import add_config_arguments, out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', metavar='CONFIG', help='of masked pre-training, which names the data')
    parser.add_argument('checkpoints', metavar='CHECKPOINT', nargs='*', help='of pre-trainings with that config')
    parser.add_argument('--random', type=whole(0), default=0, metavar='N', help='also N models as they start (default: 0)')
    add_config_arguments(parser)
    parser.add_argument('--images', type=whole(2), default=128, metavar='N', help='default: %(default)s')
    parser.add_argument('--masks', type=whole(2), default=8, metavar='N',
                        help='masks of each image besides their complements, an even number (default: %(default)s)')
    parser.add_argument('--bootstrap', type=whole(10), default=1000, metavar='N', help='resamples (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=0, help='of the masks and resamples (default: %(default)s)')
    parser.add_argument('--out', type=out_file, metavar='FILE.json', help='write all numbers to a file')
