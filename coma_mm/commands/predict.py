"""Predict on images: what a classifier, segmentor or detector makes of files, folders or videos without annotations.

Writes predictions.json into the folder DIR, for segmentation also a map of classes for each image, and gallery.html to look
at. CHECKPOINT alone is enough, as it says how it is used; --config is for older ones. The same command again goes on where
it was stopped. An image that cannot be read is named and skipped, and the exit code is 1 then.
"""
import argparse
import sys

from coma_mm.ranges import SHARE, whole

from .arguments import add_rgb_argument, add_trust_argument, out_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('images', metavar='IMAGE', nargs='+',
                        help='files, folders, patterns (quoted, as "a/**/*.jpg") or videos; - for a list on standard input')
    parser.add_argument('--out', type=out_folder, required=True, metavar='DIR', help='folder for what is found')
    parser.add_argument('--config', help='config that it was trained with, in place of what the checkpoint says')
    parser.add_argument('--score-threshold', type=SHARE, metavar='SCORE',
                        help='leave out what has a lower score: objects (default: 0.3), classes, or pixels')
    parser.add_argument('--top-k', type=whole(1), metavar='K',
                        help='keep the K best classes of an image (default: 5), or its K best objects (default: all)')
    parser.add_argument('--batch-size', type=whole(1), default=1, metavar='N',
                        help='images, or tiles, at a time; those of one size that follow each other (default: %(default)s)')
    parser.add_argument('--device', help='where to compute: cpu, cuda, cuda:1, … (default: a GPU, if there is one)')
    parser.add_argument('--amp', action='store_true', help='compute in bf16')
    either = parser.add_mutually_exclusive_group()
    either.add_argument('--tta', action='store_true', help='test-time augmentation, as of coma-mm test')
    either.add_argument('--tile', type=whole(16), metavar='PX', help='cut images that are larger into tiles of PX × PX')
    parser.add_argument('--overlap', type=whole(0), default=128, metavar='PX',
                        help='of neighbouring tiles (default: %(default)s)')
    parser.add_argument('--every', type=whole(1), default=1, metavar='N',
                        help='take each N-th frame of a video (default: all)')
    parser.add_argument('--overlay', action='store_true', help='draw what is found on the images, into DIR/overlays')
    add_rgb_argument(parser)
    parser.add_argument('--overwrite', action='store_true', help='start anew in DIR, and remove what an earlier run wrote')
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Predict."""
    from coma_mm.inference.predict import Settings, predict, summary
    settings = Settings(args.score_threshold, args.top_k, args.amp, args.tta, args.tile, args.overlap if args.tile else 0,
                        args.every)
    outcome = predict(args.checkpoint, args.images, args.out, settings, config=args.config, batch_size=args.batch_size,
                      device=args.device, overlay=args.overlay, overwrite=args.overwrite, rgb=args.rgb)
    print(summary(outcome, args.out))
    if outcome.failed:
        sys.exit(1)
