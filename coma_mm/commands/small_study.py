"""What lets the deep stages learn on small images? Short pre-trainings, three seeds for each arm, probed along training.

docs/results/small_scale.md has the arms and the results. It can be stopped at any time, by a signal, by --minutes or by a
file named stop in the folder of its runs, and the same command goes on where it was.
"""
import argparse

from coma_mm.ranges import above

from .arguments import given_again, out_file, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--data', default='data/tiny-imagenet-100', metavar='PATH',
                        help='the pack tiny-imagenet-100, its folder or its zip file (default: %(default)s)')
    parser.add_argument('--work-dir', default='work_dirs/small_study',
                        help='where runs are, and the scenes that it draws (default: %(default)s)')
    parser.add_argument('--out', type=out_file, default='work_dirs/small_study/small_study.json', metavar='FILE.json',
                        help='the file of facts (default: %(default)s)')
    parser.add_argument('--only', nargs='+', metavar='NAME',
                        help='arms or groups of arms (leak, fusion, patches, methods, leak-128), or scratch, the '
                             'classifiers from scratch (default: all)')
    parser.add_argument('--minutes', type=above(0), help='stop after so many (default: at the end)')
    parser.add_argument('--jobs', type=workers(name='--jobs'), default=1,
                        help='processes that share the runs (default: %(default)s)')
    parser.add_argument('--page', type=out_file, metavar='FILE.md',
                        help='run nothing: write the results into the page, and its figure beside it')


def run(args: argparse.Namespace) -> None:
    """Go on with the study, or write its page."""
    if args.page:
        from coma_mm.benchmark.small_scale.page import write_page
        return write_page(args.out, args.page)
    import sys
    import time

    import torch

    from coma_mm.benchmark.complement.study import side_by_side
    from coma_mm.benchmark.small_scale.study import SmallStudy
    from coma_mm.benchmark.small_scale.supervised import NAME, SupervisedStudy
    asked = args.only or ()
    only = [name for name in asked if name != NAME]
    studies = [SmallStudy(args.data, args.work_dir, args.out, only)] if only or not asked else []
    if NAME in asked or not asked:
        studies.append(SupervisedStudy(args.work_dir, args.out))
    if args.jobs > 1:
        given = given_again(args, 'data', 'work_dir', 'out', 'minutes')
        named = ['--only', *asked] if asked else []
        return side_by_side(['-m', 'coma_mm', 'small_study', *given, *named], args.jobs)
    torch.set_num_threads(1)
    end = args.minutes and time.monotonic() + 60 * args.minutes
    for study in studies:
        study.run(end and max(0, end - time.monotonic()) / 60)
    print(f'the study is complete: {args.out}', file=sys.stderr)
