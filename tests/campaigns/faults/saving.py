#!/usr/bin/env python
"""How long training waits for a checkpoint of CoMA with DyViT-B, written directly and in the background.

    python tests/campaigns/faults/saving.py [--saves 10] [--folder DISK]

One run of a few small batches saves in both ways in turn; printed are the medians in seconds. Run by hand: it writes
checkpoints of more than a gigabyte.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
CONFIG = ROOT / 'configs/coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py'

import coma_mm  # noqa: E402, F401
from coma_mm.config.read import read_config  # noqa: E402
from coma_mm.engine.hooks.checkpoint import WholeCheckpointHook  # noqa: E402
from coma_mm.engine.train import train  # noqa: E402
from coma_mm.prepare.shapes import write_shapes  # noqa: E402


def main():
    """Run, and print both times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--saves', type=int, default=10, help='in each of the two ways (default: 10)')
    parser.add_argument('--folder', help='on the disk to write to (default: that of temporary files)')
    args = parser.parse_args()
    waited, sizes, save = {False: [], True: []}, [], WholeCheckpointHook.save
    thread = ThreadPoolExecutor(1)

    def timed(hook, *arguments):
        hook.finish()  # what is still being written belongs to the save before
        background = hook.writer is None
        hook.writer = thread if background else None
        begun = time.perf_counter()
        save(hook, *arguments)
        waited[background].append(time.perf_counter() - begun)
        hook.finish()
        sizes.append(Path(hook.newest).stat().st_size)

    WholeCheckpointHook.save = timed
    with tempfile.TemporaryDirectory(prefix='saving', dir=args.folder) as folder:
        counts = dict(unlabelled=2 * args.saves + 2, train=1, val=1, test=1)
        write_shapes(f'{folder}/shapes', counts, size=64, progress=False)
        os.environ['IMAGE_ROOT'] = f'{folder}/shapes/unlabelled'
        loaders = {f'{split}_dataloader.{key}': value for split in ('train', 'val')
                   for key, value in dict(batch_size=2, num_workers=0, persistent_workers=False).items()}
        checkpoint = {f'default_hooks.checkpoint.{key}': value
                      for key, value in dict(by_epoch=False, interval=1, max_keep_ckpts=1).items()}
        options = {**loaders, **checkpoint, 'optim_wrapper.accumulative_counts': 1, 'train_cfg.max_epochs': 2,
                   'param_scheduler.0.end': 1, 'param_scheduler.1.begin': 1, 'param_scheduler.1.end': 2}
        train(read_config(str(CONFIG), options, f'{folder}/run'))
    print(f'{statistics.median(sizes) / 1e9:.2f} GB; median seconds that training waits: '
          f'{statistics.median(waited[False]):.2f} written directly, {statistics.median(waited[True]):.2f} in the '
          f'background, {len(waited[True])} saves each')


if __name__ == '__main__':
    main()
