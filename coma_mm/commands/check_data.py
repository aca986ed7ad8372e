"""Check a data set before training: layout, counts, sizes, labels, copies, leaks, files that are damaged (docs/data.md).

  check_data imagenet|ade20k|coco PATH      a data set in its official layout
  check_data coco FILE.json [FILE.json ...] --images DIR
  check_data segmentation IMAGES MASKS
  check_data folder PATH [PATH ...]         images; the folders in it may be classes, or train and val
  check_data config my.py                   what a run would read

Several data sets (two files or folders, those of a config) are compared: images for validation that are trained on are a
problem. Exit code: 0 no problem found, 1 problems found, 2 bad usage.
"""
import argparse
import os
import sys
from typing import TYPE_CHECKING

from coma_mm.errors import UserError, choice, printable
from coma_mm.ranges import number, whole

from .arguments import add_trust_argument, out_file, workers

if TYPE_CHECKING:
    from coma_mm.prepare.check import Findings
    from coma_mm.prepare.survey import Survey

OPTIONS = dict(images='coco', classes='segmentation', ignore='segmentation', data_root='config', cfg_options='config')
"""What kind of data each option is for that is not for all."""
KINDS = ('imagenet', 'ade20k', 'coco', 'folder', 'segmentation', 'config')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('kind', metavar='KIND', help='what PATH should be: imagenet, ade20k, coco, folder, segmentation, or '
                        'config')
    parser.add_argument('path', metavar='PATH', help='folder of the data set, COCO file, or config')
    parser.add_argument('more', metavar='PATH', nargs='*', help='of segmentation the masks; further COCO files or folders')
    parser.add_argument('--images', metavar='DIR', help='folder of the images of COCO files (default: that of the file)')
    parser.add_argument('--classes', metavar='FILE', help='of masks: text file with a class in each line, in the order of '
                        'their values')
    parser.add_argument('--ignore', type=whole(0, 255), nargs='+', metavar='N', help='of masks: values that are no class')
    parser.add_argument('--html', type=out_file, metavar='PAGE.html', help='write a page with pictures, their labels and '
                        'what was found')
    parser.add_argument('--full', action='store_true', help='read every image to its end, not just a sample')
    parser.add_argument('--workers', type=workers(), default=len(os.sched_getaffinity(0)), metavar='N',
                        help='processes that read (default: one per core)')
    parser.add_argument('--data-root', metavar='PATH', help="of a config: folder of the data set, instead of its data_root")
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='of a config: settings that replace its own')
    add_trust_argument(parser)
    parser.add_argument('--moments', type=out_file, metavar='FILE.json',
                        help='measure the values of the images, of any bands and depth, instead, and write the moments by '
                        'which models normalise them (docs/bands.md)')
    parser.add_argument('--nodata', type=number(), metavar='VALUE',
                        help='with --moments: the value that stands for no data, as NaN always does (default: what the '
                        'files say)')


def run(args: argparse.Namespace) -> None:
    """Check, and print what was found."""
    choice('KIND', args.kind, KINDS)
    for name, kind in OPTIONS.items():
        if getattr(args, name) is not None and args.kind != kind:
            raise UserError(f'--{name.replace("_", "-")} is for check_data {kind}, not for {args.kind}')
    if args.nodata is not None and not args.moments:
        raise UserError('--nodata is for --moments; pass it with --moments FILE.json')
    if args.moments:
        return moments(args)
    is_official = args.kind in ('imagenet', 'ade20k') or args.kind == 'coco' and not args.path.lower().endswith('.json')
    (_run_official if is_official else _run_own)(args)


def _run_official(args: argparse.Namespace) -> None:
    from coma_mm.prepare.check import KINDS, check, settings
    if own := '--html' * bool(args.html) or '--images' * bool(args.images) or ' '.join(args.more):
        raise UserError(f'{args.kind} {args.path}: {own} is for data of your own; expected one folder in the official '
                        'layout alone')
    say(f'{KINDS[args.kind].title} in {args.path}')
    findings = check(args.kind, args.path, args.full, args.workers)
    _say_counts(findings)
    _say_read(findings)
    _say_end(findings, f'no problem found; for the configs: {" or ".join(settings(args.kind, args.path))}')


def _run_own(args: argparse.Namespace) -> None:
    from coma_mm.prepare.check import Findings, settings
    from coma_mm.prepare.survey import coco_sets, config_sets, folder_sets, segmentation_sets, survey
    paths, findings, end = [args.path, *args.more], Findings(), 'no problem found'
    if args.kind == 'segmentation':
        from coma_mm.prepare.new.label_values import class_names
        if len(paths) != 2:
            raise UserError(f'segmentation takes two folders, IMAGES and MASKS; {len(paths)} given: {" ".join(paths)}')
        title = f'segmentation: {args.path}, masks {args.more[0]}'
        sets = segmentation_sets(*paths, class_names(args.classes), args.ignore, findings)
    elif args.kind == 'coco':
        title, sets = f'COCO annotations {", ".join(paths)}', coco_sets(paths, args.images, findings)
    elif args.kind == 'folder':
        title, sets = f'images in {", ".join(paths)}', folder_sets(paths, findings)
        if len(paths) == 1:
            end += f'; for the configs: {" or ".join(settings("folder", args.path))}'
    else:
        from coma_mm.config.read import parse_options, read_config
        if args.more:
            raise UserError(f'config takes one file; {len(paths)} given: {" ".join(paths)}')
        cfg = read_config(args.path, parse_options(args.cfg_options), data_root=args.data_root)
        title, sets = f'what {args.path} reads', config_sets(cfg, findings)
    say(title)
    _say_counts(findings)
    found = survey(sets, findings, args.full, args.workers)
    _say_read(found)
    for line in found.lines():
        say(line)
    if args.html:
        _write_page(args.html, args.kind, paths, found, args.workers)
    _say_end(found, end)


def _write_page(path: str, kind: str, paths: list[str], found: 'Survey', workers: int) -> None:
    from coma_mm.visualization.data_page import write_data_page
    names = ', '.join(os.path.basename(os.path.abspath(one)) for one in paths)
    write_data_page(path, f'What {names} reads' if kind == 'config' else f'What is in {names}', found, workers)
    say(f'  page                  {path}')


def _say_counts(findings: 'Findings') -> None:
    for what, found, official in findings.counts:
        say(f'  {what:22}{found:>11,}' + (f'   official {official:>11,}' if official else ''))


def _say_read(findings: 'Findings') -> None:
    if findings.images:
        rest = '' if findings.read == findings.images else '; the others by --full'
        say(f'  read {findings.read:,} of {findings.images:,} images to their end{rest}')
    if findings.smallest:
        side, path = findings.smallest
        say(f'  smallest of those: {side} px at its shorter side, {path}')


def _say_end(findings: 'Findings', end: str) -> None:
    for text in findings.warnings:
        say(f'warning: {text}')
    for text in findings.problems:
        say(f'problem: {text}')
    if findings.problems:
        say(f'{len(findings.problems)} problem(s)')
        sys.exit(1)
    say(end)


def moments(args: argparse.Namespace) -> None:
    """Measure, print what was found, and write it."""
    from coma_mm.prepare.check import KINDS
    from coma_mm.prepare.moments import FOLDERS, measure, write_moments
    if other := ' '.join(args.more) or '--html' * bool(args.html) or '--images' * bool(args.images):
        raise UserError(f'--moments measures one folder, and draws nothing; leave out {other}')
    folder = os.path.join(args.path, FOLDERS.get(choice('KIND', args.kind, (*KINDS, 'folder')), '')).rstrip(os.sep)
    measured = measure(folder, args.full, args.workers, args.nodata)
    for line in (*measured.lines, *(f'problem: {text}' for text in measured.problems),
                 *write_moments(measured, args.moments)):
        say(line)
    if measured.problems:
        sys.exit(1)


def say(text: str) -> None:
    """Print a line in which a file's name may hold any bytes."""
    print(printable(text), flush=True)
