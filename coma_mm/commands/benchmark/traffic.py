"""Kernels, bytes and operations of a step on a GPU, counted without one.

A step runs on CUDA tensors that have no content. For each operator the bytes that it reads and writes and its operations are
counted; the larger of the two times that a card needs for them at best, summed, is a bound: real steps take longer. With a
C++ compiler (g++) whole training steps are counted, without one their forward pass. The step is that of `speed`.

Examples:
  python tools/benchmark.py traffic --only pretrain/coma-frozen pretrain/mmpretrain-mae
  python tools/benchmark.py traffic --only 'inference/*' --batch-size 128 --operators 20
"""
import argparse

from coma_mm.ranges import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--only', nargs='+', default=['pretrain/*'], metavar='GROUP/NAME',
                        help="patterns of contestants, of the groups pretrain and inference (default: 'pretrain/*')")
    parser.add_argument('--arch', default='base', help='size of all models: base, small or tiny (default: base)')
    parser.add_argument('--size', type=whole(1), default=224, metavar='PX', help='side of the images (default: %(default)s)')
    parser.add_argument('--batch-size', type=whole(1), default=512, metavar='N', help='images (default: %(default)s)')
    parser.add_argument('--precision', choices=['fp32', 'bf16'], default='bf16', help='default: %(default)s')
    parser.add_argument('--operators', type=whole(0), default=0, metavar='N',
                        help='also list the N operators that take longest')
