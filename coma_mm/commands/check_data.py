"""Check a data set before training: layout, counts, class ids, images that cannot be read (docs/data.md).

Exit code: 0 no problem found, 1 problems found, 2 bad usage.
"""
import argparse
import os
import sys

from coma_mm.errors import choice, printable

from .arguments import out_file, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('kind', metavar='KIND', help='what PATH should be: imagenet, ade20k, coco, or folder: images of '
                        'your own, for pre-training')
    parser.add_argument('path', metavar='PATH', help='folder of the data set')
    parser.add_argument('--full', action='store_true', help='read every image to its end, not just a sample')
    parser.add_argument('--workers', type=workers(), default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes that read with --full (default: one per core)')
    parser.add_argument('--moments', type=out_file, metavar='FILE.json',
                        help='measure the values of the images, of any bands and depth, instead, and write the moments by '
                        'which models normalise them (docs/bands.md)')
    parser.add_argument('--nodata', type=float, metavar='VALUE',
                        help='with --moments: the value that stands for no data (default: what the files say)')


def run(args: argparse.Namespace) -> None:
    """Check, and print what was found."""
    if args.moments:
        return moments(args)
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


def moments(args: argparse.Namespace) -> None:
    """Measure, print what was found, and write it."""
    from coma_mm.prepare.check import KINDS
    from coma_mm.prepare.moments import FOLDERS, measure, write_moments
    folder = os.path.join(args.path, FOLDERS.get(choice('KIND', args.kind, KINDS), '')).rstrip(os.sep)
    measured = measure(folder, args.full, args.workers, args.nodata)
    for line in (*measured.lines, *(f'problem: {text}' for text in measured.problems),
                 *write_moments(measured, args.moments)):
        say(line)
    if measured.problems:
        sys.exit(1)


def say(text: str) -> None:
    """Print a line in which a file's name may hold any bytes."""
    print(printable(text), flush=True)
