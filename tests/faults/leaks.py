#!/usr/bin/env python
"""Whether a long run leaks: memory, open files and threads of a tiny pre-training with validation and checkpoints.

    python tests/faults/leaks.py [--steps 2000]

Prints a row for every tenth of the run: the resident memory of the main process and of its loaders' workers, in MB, open
files and threads of the main process. The exit code is 1 if any of them is larger at the end than at a third of the run,
memory by more than 5 %.
"""
import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import run  # noqa: E402


def state(pid):
    """tuple: Memory of a process and its children in MB, its open files, its threads."""
    processes = [pid, *run.workers(pid)]
    status = [Path(f'/proc/{process}/status').read_text() for process in processes]
    memory = sum(int(re.search(r'VmRSS:\s+(\d+)', text)[1]) for text in status) / 1024
    return memory, len(os.listdir(f'/proc/{pid}/fd')), int(re.search(r'Threads:\s+(\d+)', status[0])[1])


def main():
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=2000)
    steps = parser.parse_args().steps
    epochs = steps // 7  # of 57 images in batches of 8
    with tempfile.TemporaryDirectory(prefix='leaks') as folder:
        os.environ['SHAPES_ROOT'] = f'{folder}/shapes'
        run.write_shapes(f'{folder}/shapes', dict(unlabelled=60, train=1, val=1, test=1), size=64, progress=False)
        run.COMMON.update({'train_cfg.max_epochs': epochs, 'param_scheduler.1.end': epochs,
                           'train_cfg.val_interval': 10, 'default_hooks.checkpoint.interval': 20})
        work_dir, rows = Path(folder) / 'run', []
        pid = run.start('pretrain', work_dir)
        print(f'{"step":>6} {"memory, MB":>11} {"files":>6} {"threads":>8}')
        while run.wait(pid, 0.5) is None:
            done = re.findall(r'Epoch\(train\) +\[(\d+)\]\[(\d)/7\]', Path(f'{work_dir}.log').read_text())
            step = (int(done[-1][0]) - 1) * 7 + int(done[-1][1]) if done else 0
            if step >= (len(rows) + 1) * steps // 10:
                time.sleep(0.2)
                rows.append((step, *state(pid)))
                print('{:>6} {:>11.1f} {:>6} {:>8}'.format(*rows[-1]), flush=True)
    if len(rows) < 9:
        print(f'the run ended early: {run.tail(work_dir)}')
        return 1
    third, last = rows[3], rows[-1]
    return int(last[1] > 1.05 * third[1] or last[2] > third[2] or last[3] > third[3])


if __name__ == '__main__':
    sys.exit(main())
