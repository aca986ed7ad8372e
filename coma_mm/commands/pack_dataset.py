"""Resize the images of a folder once and pack them into a few large files, for fast reading (docs/data.md).

Interrupted, it picks up where it left off when the same command is run again. PackedImages reads the pack.
"""
import argparse
import os

from coma_mm.ranges import whole

from .arguments import workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('source', metavar='SOURCE', help='folder of images, with folders of classes or without; with '
                        '--verify a pack')
    parser.add_argument('out', metavar='OUT', nargs='?', help='folder to write: absent or empty')
    parser.add_argument('--short-side', type=whole(8, 65535), metavar='N',
                        help='shorter side of the packed images in px; smaller ones are never enlarged')
    parser.add_argument('--quality', type=whole(1, 100), default=95, help='quality of the JPEGs (default: %(default)s)')
    parser.add_argument('--shard-size', type=whole(1), default=4096, metavar='N',
                        help='images in a file (default: %(default)s)')
    parser.add_argument('--workers', type=workers(), default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes (default: one per core)')
    parser.add_argument('--skip-broken', action='store_true',
                        help='leave out images that cannot be read, and list them in OUT/skipped.txt')
    parser.add_argument('--verify', action='store_true', help='read the pack SOURCE and compare its check sums')


def run(args: argparse.Namespace) -> None:
    """Pack, or verify."""
    from coma_mm.errors import UserError
    from coma_mm.prepare.pack import SKIPPED, pack, verify
    if args.verify:
        index = verify(args.source, args.workers)
        print(f'{args.source}: {index["images"]:,} images, all as they were packed')
        return
    if args.out is None or args.short_side is None:
        raise UserError('expected SOURCE, OUT and --short-side N (or --verify and a pack)')
    index = pack(args.source, args.out, args.short_side, args.quality, args.shard_size, args.workers, args.skip_broken)
    size = sum(shard['bytes'] for shard in index['shards']) / 1e6
    print(f'{args.out}: {"wrote" if index["written"] else "already complete, left as it is:"} {index["images"]:,} images in '
          f'{len(index["shards"])} file(s), {size:,.0f} MB in all' +
          (f'; {index["skipped"]:,} could not be read, see {args.out}/{SKIPPED}' if index['skipped'] else ''))
