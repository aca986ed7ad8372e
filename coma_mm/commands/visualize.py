"""Look inside a model, on images of your own: what it reconstructs, what it attends to, what its features are.

Writes a PNG per image and gallery.html, one file with all of them, into a folder. Images are scaled to the short side that
the config's validation has, and cropped to whole patches; of one longer than eight times its short side the middle is drawn.
"""
import argparse
import math

from coma_mm.ranges import SEED

from .arguments import add_band_arguments, add_rgb_argument, add_trust_argument, out_folder

SUBCOMMANDS = dict(
    reconstruct='reconstructions of a pre-trained model at several masking ratios',
    windows='which keys a query attends to in each DM-MSA window',
    attention='plain attention of the later stages, and the features of all stages by PCA')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and what they take."""
    subparsers = parser.add_subparsers(dest='drawing', required=True, metavar='COMMAND')
    for name, text in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=f'Draw {text}.')
        subparser.add_argument('config', metavar='CONFIG')
        subparser.add_argument('checkpoint', metavar='CHECKPOINT', help='a checkpoint of pre-training' + (
            '' if name == 'reconstruct' else ' or fine-tuning, or an exported backbone; the backbone is read'))
        subparser.add_argument('images', metavar='IMAGE', nargs='+', help='files, or folders of them')
        subparser.add_argument('--size', type=size, metavar='PX', help="short side (default: the config's)")
        subparser.add_argument('--out', type=out_folder, metavar='DIR', help=f'default: work_dirs/CONFIG_NAME/{name}')
        if name == 'reconstruct':
            subparser.add_argument('--ratios', type=ratio, nargs='+', default=[.4, .6, .75, .9], metavar='SHARE',
                                   help='shares of patches that are masked (default: 0.4 0.6 0.75 0.9)')
            subparser.add_argument('--without-statistics', action='store_true',
                                   help='with norm_pix: give predicted patches the average mean and variance of the visible '
                                   'ones, instead of their own')
            subparser.add_argument('--seed', type=SEED, default=0, help='seed of the masks (default: %(default)s)')
        else:
            subparser.add_argument('--at', type=point, nargs='+', metavar='X,Y', default=[(.3, .3), (.5, .5), (.7, .7)],
                                   help='queries, as fractions of width and height (default: 0.3,0.3 0.5,0.5 0.7,0.7)')
            subparser.add_argument('--per-head', action='store_true', help='draw a picture per query with a row per head')
        add_band_arguments(subparser)
        add_rgb_argument(subparser)
        add_trust_argument(subparser)


def run(args: argparse.Namespace) -> None:
    """Draw."""
    from coma_mm.config.read import parse_options
    from coma_mm.visualization import draw_attention, draw_reconstructions
    shared = args.config, args.checkpoint, args.images, args.out, args.size
    more = dict(cfg_options=parse_options(getattr(args, 'cfg_options', None)), rgb=args.rgb)
    if args.drawing == 'reconstruct':
        print(draw_reconstructions(*shared, args.ratios, not args.without_statistics, args.seed, **more))
    else:
        print(draw_attention(*shared, args.at, args.per_head, args.drawing == 'windows', **more))


def point(text: str) -> tuple[float, float]:
    """X,Y as fractions."""
    try:
        x, y = map(float, text.split(','))
    except ValueError:
        x = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(f'{text!r}: expected X,Y, both from 0 (left, top) to 1, as 0.5,0.25')
    return x, y


def ratio(text: str) -> float:
    """A share of masked patches."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a share of masked patches between 0 and 1, as 0.6')
    return value


def size(text: str) -> int:
    """A number of px."""
    if not text.isdecimal() or not 0 < int(text) <= 4096:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a number of px from 1 to 4096')
    return int(text)
