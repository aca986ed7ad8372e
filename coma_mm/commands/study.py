"""Does pre-training pay? The demo's path with several seeds and an untouched test split, or a longer one on harder scenes.

Fine-tunes each task from CoMA and from scratch with equal budget and the same seed, tests every run's last checkpoint
once, and writes a table of means, 95 % intervals and single values. It can be interrupted and picks up where it left off,
as the demo does.
"""
import argparse

from coma_mm.ranges import whole

from .arguments import out_file, workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--work-dir', default='work_dirs/study', help='default: %(default)s')
    parser.add_argument('--out', type=out_file, help='Markdown file to write (default: study.md in the work dir)')
    parser.add_argument('--level', choices=('easy', 'hard'), default='easy',
                        help="of the scenes: easy, with the demo's recipe, or hard, some three times as long (default: "
                             '%(default)s)')
    parser.add_argument('--seeds', type=whole(1), default=3, help='fine-tunings per arm (default: %(default)s)')
    parser.add_argument('--pretrainings', type=whole(1), help='shared out among the seeds (default: one for each)')
    parser.add_argument('--jobs', type=workers(name='--jobs'),
                        help='runs side by side, with one thread each (default: 2, or 1 on a single core)')
    parser.add_argument('--complement', default='frozen', help="CoMA's complement (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the study."""
    from coma_mm.benchmark.study.study import run_study
    from coma_mm.locks import locked
    with locked(args.work_dir, wait=True):
        text, out = run_study(args.work_dir, args.out, args.level, args.seeds, args.pretrainings, args.jobs, args.complement)
    print(f'\n{text}\nwritten to {out}')
