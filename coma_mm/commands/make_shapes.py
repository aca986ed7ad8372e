"""Write CoMA-Shapes, a data set of drawn scenes, as ImageNet, ADE20K and COCO folders at once (docs/shapes.md)."""
import argparse
import os

from coma_mm.ranges import whole

from .arguments import workers

REGISTERS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    from coma_mm.prepare.shapes import LEVELS, SHARES  # a second of imports, for this command alone
    shares = ', '.join(f'{share:.0%} {split}' for split, share in SHARES.items())
    parser.add_argument('out', metavar='OUT', help='folder to write: absent, empty, or made by this tool')
    parser.add_argument('--images', type=whole(0), default=4000, metavar='N',
                        help=f'pictures in all, shared out as {shares}'.replace('%', '%%') + ' (default: %(default)s)')
    for split in SHARES:
        parser.add_argument(f'--{split}', type=whole(0), metavar='N', help='pictures of the split, instead of its share')
    parser.add_argument('--level', default='hard',
                        help=f'how hard the scenes are: {" or ".join(LEVELS)} (default: %(default)s)')
    parser.add_argument('--bands', type=whole(3, 4), default=3,
                        help='3: RGB as JPEG; 4: near infrared as well, as GeoTIFF of 16 bits, with two classes that this '
                        'band alone tells apart (default: %(default)s)')
    parser.add_argument('--size', type=whole(1), default=128, help='side of the pictures in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=whole(0), default=0, help='same seed, same bytes (default: %(default)s)')
    parser.add_argument('--workers', type=workers(), default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes (default: one per core)')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a data set with other parameters that this tool made')


def run(args: argparse.Namespace) -> None:
    """Draw, and write."""
    from coma_mm.prepare.shapes import SHARES, split_counts, write_shapes
    counts = split_counts(args.images, **{split: getattr(args, split) for split in SHARES})
    written = write_shapes(args.out, counts, args.size, args.seed, args.workers, args.overwrite,
                           level=args.level, bands=args.bands)
    summary = ', '.join(f'{count} {split}' for split, count in counts.items())
    print(f'{args.out}: {"wrote" if written else "already complete, left as it is:"} {summary} '
          f'({args.size} px, {args.level}, seed {args.seed})')
