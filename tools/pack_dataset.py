#!/usr/bin/env python
"""Resize the images of a folder once and pack them into a few large files, for fast reading (docs/data.md).

Interrupted, it goes on when the same command is run again. PackedImages reads the pack.
"""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402
from coma_mm.errors import UserError  # noqa: E402
from coma_mm.prepare.pack import SKIPPED, pack, verify  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='SOURCE', help='folder of images, with folders of classes or without; with '
                        '--verify a pack')
    parser.add_argument('out', metavar='OUT', nargs='?', help='folder to write: absent or empty')
    parser.add_argument('--short-side', type=int, metavar='N', help='shorter side of the packed images in px; smaller ones '
                        'are never enlarged')
    parser.add_argument('--quality', type=int, default=95, help='of the JPEGs (default: %(default)s)')
    parser.add_argument('--shard-size', type=int, default=4096, metavar='N', help='images in a file (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes (default: one per core)')
    parser.add_argument('--skip-broken', action='store_true',
                        help=f'leave out images that cannot be read, and list them in OUT/{SKIPPED}')
    parser.add_argument('--verify', action='store_true', help='read the pack SOURCE and compare its check sums')
    return parser.parse_args()


def main():
    """Pack, or verify."""
    args = parse_args()
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


if __name__ == '__main__':
    cli.main(main)
