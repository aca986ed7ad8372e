"""The whole path on CoMA-Shapes: make the data, pre-train with CoMA, fine-tune three ways, report. See `make demo`.

What is done stays done: interrupted and started again, it picks up where it left off.
"""
import argparse

from coma_mm.ranges import above


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--work-dir', default='work_dirs/demo', help='default: %(default)s')
    parser.add_argument('--budget', type=above(0), default=1., metavar='X', help='factor on images and epochs (default: 1)')


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    from coma_mm.benchmark.study.demo import run_demo
    from coma_mm.locks import locked
    with locked(args.work_dir, wait=True):
        run_demo(args.work_dir, args.budget)
