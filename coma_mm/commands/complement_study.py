"""Does the complement teach? MAE, two independent masks and two complementary ones at equal operations, with intervals.

The plan is docs/results/complement_plan.md. It can be stopped at any time, by a signal, by --minutes or by a file
named stop in the folder of the scale, and the same command goes on where it was.
"""
import argparse

from coma_mm.ranges import above

from .arguments import given_again, out_file, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--scale', choices=('cpu', 'gpu'), default='cpu',
                        help='cpu, some hours on one core, or gpu, with all arms (default: %(default)s)')
    parser.add_argument('--data', default='data/tiny-imagenet-100', metavar='PATH',
                        help='the pack tiny-imagenet-100, its folder or its zip file (default: %(default)s)')
    parser.add_argument('--work-dir', default='work_dirs/complement_study', help='default: %(default)s')
    parser.add_argument('--out', type=out_file, default='work_dirs/complement_study/complement_study.json',
                        metavar='FILE.json', help='the file of facts (default: %(default)s)')
    parser.add_argument('--minutes', type=above(0), help='stop after so many (default: at the end)')
    parser.add_argument('--jobs', type=workers(name='--jobs'), default=1,
                        help='processes that share the runs (default: %(default)s)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cpu for the scale cpu, else cuda')
    parser.add_argument('--page', type=out_file, metavar='FILE.md',
                        help='run nothing: write the results into the page, and its figure beside it')


def run(args: argparse.Namespace) -> None:
    """Go on with the study, or write its page."""
    if args.page:
        from coma_mm.benchmark.complement.page import write_page
        return write_page(args.out, args.page)
    import sys

    import torch

    from coma_mm.benchmark.complement.study import Study, side_by_side
    from coma_mm.errors import UserError
    device = args.device or dict(cpu='cpu', gpu='cuda')[args.scale]
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--scale {args.scale}: torch finds no GPU here; expected one, or --device cpu, which takes weeks')
    if args.jobs > 1:
        given = given_again(args, 'scale', 'data', 'work_dir', 'out', 'minutes', 'device')
        return side_by_side(['-m', 'coma_mm', 'complement_study', *given], args.jobs)
    if device == 'cpu':
        torch.set_num_threads(1)
    else:
        torch.use_deterministic_algorithms(True, warn_only=True)
    Study(args.scale, args.data, args.work_dir, args.out, device).run(args.minutes)
    print(f'the study is complete: {args.out}', file=sys.stderr)
