"""Write CoMA-Shapes, a data set of drawn scenes, as ImageNet, ADE20K and COCO folders at once (docs/shapes.md)."""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.errors import UserError  # noqa: E402
from coma_mm.prepare.shapes import SHARES, split_counts, write_shapes  # noqa: E402


class Parser(argparse.ArgumentParser):

    def error(self, message):
        raise UserError(f'{message} (see {self.prog} --help)')


def parse_args():
    parser = Parser(description=__doc__)
    shares = ', '.join(f'{share:.0%} {split}' for split, share in SHARES.items())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    parser.add_argument('out', metavar='OUT', help='folder to write: absent, empty, or made by this tool')
    parser.add_argument('--images', type=int, default=4000, metavar='N',
                        help=f'pictures in all, shared out as {shares}'.replace('%', '%%') + ' (default: %(default)s)')
    for split in SHARES:
        parser.add_argument(f'--{split}', type=int, metavar='N', help='pictures of the split, instead of its share')
    parser.add_argument('--size', type=int, default=128, help='side of the pictures in pixels (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same bytes (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=cores, metavar='N', help='processes (default: one per core)')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a data set with other parameters that this tool made')
    return parser.parse_args()


def main():
    args = parse_args()
    counts = split_counts(args.images, **{split: getattr(args, split) for split in SHARES})
    written = write_shapes(args.out, counts, args.size, args.seed, args.workers, args.overwrite)
    summary = ', '.join(f'{count} {split}' for split, count in counts.items())
    print(f'{args.out}: {"wrote" if written else "already complete, left as it is:"} {summary} '
          f'({args.size} px, seed {args.seed})')


if __name__ == '__main__':
    try:
        main()
    except UserError as error:
        if os.environ.get('COMA_MM_DEBUG') == '1':
            raise
        sys.exit(print(f'error: {error}', file=sys.stderr) or 2)
    except KeyboardInterrupt:
        sys.exit(print('interrupted; run the same command again to write the data set', file=sys.stderr) or 130)
