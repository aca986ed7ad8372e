#!/usr/bin/env python
"""Check a data set before training: layout, counts, class ids, images that cannot be read (docs/data.md).

Exit code: 0 no problem found, 1 problems found, 2 bad usage.
"""
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402
from coma_mm.prepare.check import KINDS, check, settings  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[-1])
    parser.add_argument('kind', choices=KINDS, help='what PATH should be; folder: images of your own, for pre-training')
    parser.add_argument('path', metavar='PATH', help='folder of the data set')
    parser.add_argument('--full', action='store_true', help='read every image to its end, not just a sample')
    parser.add_argument('--workers', type=int, default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes that read with --full (default: one per core)')
    return parser.parse_args()


def main():
    """Check, and print what was found."""
    args = parse_args()
    say(f'{KINDS[args.kind].title} in {args.path}')
    findings = check(args.kind, args.path, args.full, max(1, args.workers))
    for what, found, official in findings.counts:
        say(f'  {what:22}{found:>11,}' + (f'   official {official:>11,}' if official else ''))
    if findings.images:
        rest = '' if findings.read == findings.images else '; the others by --full'
        say(f'  read {findings.read:,} of {findings.images:,} images to their end{rest}')
    if findings.smallest:
        side, path = findings.smallest
        say(f'  smallest of those: {side} px at its shorter side, {path}')
    for text in findings.warnings:
        say(f'warning: {text}')
    for text in findings.problems:
        say(f'problem: {text}')
    if findings.problems:
        say(f'{len(findings.problems)} problem(s)')
        sys.exit(1)
    say(f'no problem found; for the configs: {" or ".join(settings(args.kind, args.path))}')


def say(text):
    """Print a line in which a file's name may hold any bytes."""
    print(''.join(char if char.isprintable() else ascii(char)[1:-1] for char in text), flush=True)


if __name__ == '__main__':
    cli.main(main)
