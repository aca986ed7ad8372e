"""Speed and memory of training steps and of inference, against the libraries' own models.

What shares size, precision and compilation is measured together: in each repeat every contestant runs once, one after
another, in an order shuffled anew, after two steps of warm-up. Speed is batch / median seconds; a ratio is the median over
the repeats of the ratio to the peer within the same repeat (above 1: faster than the peer), so a machine that slows down
meanwhile does not change it. On a CPU with one thread (OMP_NUM_THREADS=1) seconds are the processor's, which other work
on the machine disturbs less. Images are noise, on the device already; training steps are mmengine's `train_step`, from the
batch to updated weights, CoMA's copy of its weights included, with one optimiser for all (but for "as shipped").
DyViT sees 20 of 49 patches of 32 px, ViT 78 of 196 of 16 px. A contestant's peers are always measured along with it. One
that fails has a note in its row, and the others go on.

Memory: "weights" are parameters and buffers, CoMA's evaluation model included; "moments" the optimiser's; "step" is the peak
above these during one step: gradients, activations, temporary tensors; on a GPU "reserved" is what the process
holds of it by then, what PyTorch keeps for later and the contestants before included. Contestants of one comparison are in
memory together: 12 GB for all of 'pretrain/*' at batch 8; --only takes fewer.

Examples:
  python tools/benchmark.py speed --device cpu --arch tiny --sizes 64 --batch-size 2 --repeats 2 --only 'pretrain/*'
  python tools/benchmark.py speed --device cpu --only 'pretrain/*' --repeats 5
  python tools/benchmark.py speed --precision bf16 --compile only --batch-size 512 256 --only 'pretrain/*' --max-time 600
  python tools/benchmark.py speed --only 'inference/*' --sizes 224 512 768 1024 --windows default fine
  python tools/benchmark.py speed --profile coma-frozen --trace trace.json

In a checkout `make gpu` measures what is worth it on a GPU in nine minutes.
"""
import argparse
from pathlib import Path

from coma_mm.benchmark.speed.sizes import BATCHES
from coma_mm.ranges import SEED, above, whole

from ..arguments import out_file, out_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--device', choices=['cpu', 'cuda'], help='default: cuda; the CPU is used only if asked for')
    parser.add_argument('--precision', nargs='+', choices=['fp32', 'tf32', 'bf16'], default=['fp32'],
                        help='default: fp32')
    parser.add_argument('--compile', nargs='?', const='too', choices=['too', 'only'],
                        help='measure compiled too, or compiled only')
    parser.add_argument('--arch', default='base',
                        help='size of all models: base, small or tiny (default: base; tiny is for trying, its peers are '
                        'not as small)')
    parser.add_argument('--sizes', nargs='+', type=whole(1), metavar='PX',
                        help='sides of the images, for all groups (default: pretrain 224, inference 224 512 768, '
                        'upernet 512, mask-rcnn 768)')
    parser.add_argument('--batch-size', nargs='+', type=whole(1), metavar='N',
                        help=f'images (default by group: {_spell(BATCHES["cpu"])} on a CPU, {_spell(BATCHES["cuda"])} on a '
                        'GPU; inference: at 224 px, as many pixels at other sizes)')
    parser.add_argument('--repeats', type=whole(1), default=5, metavar='N', help='default: 5')
    parser.add_argument('--steps', type=whole(1), metavar='N',
                        help='steps in a row that make one timing (default: 1 on a CPU, 10 on a GPU)')
    parser.add_argument('--max-time', type=above(0), metavar='SECONDS',
                        help='begin no further comparison after this time; what was left out is said')
    parser.add_argument('--only', nargs='+', default=['*'], metavar='GROUP/NAME',
                        help="patterns of contestants, e.g. 'pretrain/coma-*' (default: all)")
    parser.add_argument('--windows', nargs='+', metavar='NAME', default=['default'],
                        help="DyViT's windows in the group inference (default: default)")
    parser.add_argument('--seed', type=SEED, default=0, help='seed of weights, images, masks and order (default: 0)')
    parser.add_argument('--out', metavar='FOLDER', type=lambda text: Path(out_folder(text)),
                        help='folder of speed.json, .md and .png, or of profile.json and '
                        'profile.md (default: work_dirs/benchmark/speed_TIME)')
    parser.add_argument('--profile', nargs='?', const='coma-frozen', metavar='NAME',
                        help='show instead where the time of a training step goes, not compiled, for a contestant of the '
                        'group pretrain (default: coma-frozen)')
    parser.add_argument('--trace', type=out_file, metavar='FILE', help='with --profile: write the trace, for chrome://tracing')


def _spell(numbers: dict[str, int]) -> str:
    return ', '.join(f'{name} {number}' for name, number in numbers.items())
