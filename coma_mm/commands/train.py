"""Train any config: pre-training, classification, segmentation or detection (its default_scope decides)."""
import argparse
import os
import sys
from pathlib import Path

from coma_mm.ranges import whole

from .arguments import add_run_arguments

STOPS = True
"""A signal, Ctrl-C too, makes it save and end with an exit code of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', metavar='CONFIG')
    add_run_arguments(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='pick up from a checkpoint; auto, the default, is the latest one in the work dir')
    parser.add_argument('--overwrite', action='store_true',
                        help='start anew also where another run has left checkpoints; without effect if one is resumed')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bf16, or what the config says')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--tracker', action='append', choices=('tensorboard', 'wandb', 'mlflow'),
                        help='show curves and pictures there as well; may be given several times')
    parser.add_argument('--probe-root', metavar='PATH',
                        help='pre-training: folder of images by class; each validation tells by k-NN and a linear '
                        'classifier how good the features are')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help="scale the learning rate by the batch size over the config's base_batch_size")
    parser.add_argument('--max-time', help='save and stop after this time, e.g. 90m or 23:50:00, with exit code 75 '
                        '(SIGTERM, SIGUSR1 and Ctrl-C do the same at once)')
    parser.add_argument('--extend-to', type=whole(1), metavar='N',
                        help='with --resume: go on to this length, in epochs or iterations as the run is counted, with the '
                        'schedules of a run that had it from its start')


def run(args: argparse.Namespace) -> None:
    """Train."""
    from coma_mm.config.read import parse_options, read_config
    from coma_mm.engine.train import train
    from coma_mm.notices import warnings_last
    if int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)):  # a process died
        args.resume = 'auto'
    with warnings_last(not args.verbose):
        cfg = read_config(args.config, parse_options(args.cfg_options), args.work_dir, args.launcher,
                          data_root=args.data_root, resume=args.resume, validate=not args.no_validate, amp=args.amp,
                          auto_scale_lr=args.auto_scale_lr, extend_to=args.extend_to, trackers=args.tracker or (),
                          probe_root=args.probe_root)
        train(cfg, [dict(type='StopHook', max_time=args.max_time)], args.overwrite, args.extend_to is not None)


# torchrun starts again what ended with an error, also what ended on purpose and has noted so.
if noted := Path(os.environ.get('COMA_MM_EXIT_CODE', os.devnull)).read_text().split():
    sys.exit(int(noted[0]))
