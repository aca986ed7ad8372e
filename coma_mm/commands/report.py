"""Write a page about your runs: results, curves, classes, predictions, what differs; the paper's tables are folded below.

It takes runs of any of the three libraries, needs no network and no other file, and can be read on a phone.
"""
import argparse

from coma_mm.ranges import whole

from .arguments import out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('work_dirs', nargs='?', default='work_dirs', metavar='WORK_DIRS',
                        help='folder with runs, at any depth (default: %(default)s)')
    parser.add_argument('--out', type=out_file, metavar='FILE.html', help='default: WORK_DIRS/your_runs.html')
    parser.add_argument('--predictions', type=whole(1), nargs='?', const=40, default=0, metavar='IMAGES',
                        help='have the best run of each task predict so many validation images (default: 40), and show good '
                        'and bad ones; runs the models, on the data that their configs name')
    parser.add_argument('--paper', action='store_true',
                        help='write the page about the paper\'s numbers instead, as coma-mm benchmark report does')


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from pathlib import Path
    if args.paper:
        from coma_mm.benchmark.paper import report
        report.run(args)
        return
    from coma_mm.benchmark.own_runs import write
    print(write(args.work_dirs, args.out or Path(args.work_dirs, 'your_runs.html'), args.predictions))
