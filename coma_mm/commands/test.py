"""Test any config's model with a checkpoint: classification, segmentation or detection (its default_scope decides)."""
import argparse

from .arguments import add_run_arguments, out_file, out_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    add_run_arguments(parser)
    parser.add_argument('--out', type=out_file, metavar='FILE.json', help='write the metrics to a file')
    either = parser.add_mutually_exclusive_group()  # mmpretrain's drawings know nothing of augmented inputs
    either.add_argument('--show-dir', type=out_folder, metavar='DIR', help='draw the predictions into a folder')
    either.add_argument('--tta', action='store_true', help='test-time augmentation')


def run(args: argparse.Namespace) -> None:
    """Test."""
    from coma_mm.config.read import parse_options, read_config, use_tta
    from coma_mm.engine.train import test
    from coma_mm.notices import warnings_last
    with warnings_last(not args.verbose):
        cfg = read_config(args.config, parse_options(args.cfg_options), args.work_dir, args.launcher,
                          data_root=args.data_root, load_from=args.checkpoint, show_dir=args.show_dir)
        if args.tta:
            use_tta(cfg)  # puts the model into another: options are for the model as its config has it
        test(cfg, args.out)
