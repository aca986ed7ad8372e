"""Check a data set before training: layout, counts, class ids, images that cannot be read (docs/data.md).

Exit code: 0 no problem found, 1 problems found, 2 bad usage.
"""
import argparse
import os
import sys

from coma_mm.errors import choice, printable

from .arguments import workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('kind', metavar='KIND', help='what PATH should be: imagenet, ade20k, coco, or folder: images of '
                        'your own, for pre-training')
    parser.add_argument('path', metavar='PATH', help='folder of the data set')
    parser.add_argument('--full', action='store_true', help='read every image to its end, not just a sample')
    parser.add_argument('--workers', type=workers(), default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes that read with --full (default: one per core)')


def run(args: argparse.Namespace) -> None:
    """Check, and print what was found."""
    from coma_mm.prepare.check import KINDS, check, settings
    say(f'{KINDS[choice("KIND", args.kind, KINDS)].title} in {args.path}')
    findings = check(args.kind, args.path, args.full, args.workers)
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


def say(text: str) -> None:
    """Print a line in which a file's name may hold any bytes."""
    print(printable(text), flush=True)
