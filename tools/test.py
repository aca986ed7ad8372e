#!/usr/bin/env python
"""Test any config's model with a checkpoint: classification, segmentation or detection (its default_scope decides)."""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.config import data_roots  # noqa: E402
from coma_mm.config import read as config
from coma_mm.engine import cli  # noqa: E402
from coma_mm.engine.train import test  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    cli.add_common_arguments(parser)
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics to a file')
    either = parser.add_mutually_exclusive_group()  # mmpretrain's drawings know nothing of augmented inputs
    either.add_argument('--show-dir', metavar='DIR', help='draw the predictions into a folder')
    either.add_argument('--tta', action='store_true', help='test-time augmentation')
    return parser.parse_args()


def main():
    """Test."""
    args = parse_args()

    def change(cfg):
        data_roots.use_data_root(cfg, args.data_root)
        cfg.load_from, cfg.resume = args.checkpoint, False
        if args.show_dir:
            config.draw_predictions(cfg, args.show_dir)

    cfg = config.read_config(args.config, args.cfg_options, args.work_dir, args.launcher, change)
    if args.tta:
        config.use_tta(cfg)  # puts the model into another: options are for the model as its config has it
    test(cfg, args.out)


if __name__ == '__main__':
    cli.main(main)
