#!/usr/bin/env python
"""Train any config: pre-training, classification, segmentation or detection (its default_scope decides)."""
import argparse
import os
import sys
from pathlib import Path

# torchrun starts again what ended with an error, also what ended on purpose and has noted so.
if noted := Path(os.environ.get('COMA_MM_EXIT_CODE', os.devnull)).read_text().split():
    sys.exit(int(noted[0]))

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.config import data_roots  # noqa: E402
from coma_mm.config import read as config
from coma_mm.engine import cli  # noqa: E402
from coma_mm.engine.train import train  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG')
    cli.add_common_arguments(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='go on from a checkpoint; auto, the default, is the latest one in the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bf16, or what the config says')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help="scale the learning rate by the batch size over the config's base_batch_size")
    parser.add_argument('--max-time', help='save and stop after this time, e.g. 90m or 23:50:00, with exit code 75 '
                        '(SIGTERM and SIGUSR1 do the same at once)')
    return parser.parse_args()


def main():
    """Train."""
    args = parse_args()
    if int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)):  # a process died
        args.resume = 'auto'

    def change(cfg):
        data_roots.use_data_root(cfg, args.data_root)
        if args.no_validate:
            config.no_validation(cfg)
        if args.amp:
            config.use_amp(cfg)
        if args.auto_scale_lr:
            config.use_auto_scale_lr(cfg)
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='StopHook', max_time=args.max_time)]
        if args.resume:
            cfg.resume = True
            cfg.load_from = None if args.resume == 'auto' else args.resume

    train(config.read_config(args.config, args.cfg_options, args.work_dir, args.launcher, change))


if __name__ == '__main__':
    cli.main(main)
