#!/usr/bin/env python
"""Whether a long run leaks: memory, open files and threads of a tiny pre-training with validation and checkpoints.

    python tests/campaigns/faults/leaks.py [--steps 2000]

Prints a row for every tenth of the run: the memory of the main process and of its loaders' workers, shared pages counted
once, in MB (median over that tenth), and the main process's open files and threads (minimum, since a validation or a
checkpoint opens some for a moment). The exit code is 1 if any of them is larger in the last tenth than in the third one,
memory by more than 5 %.
"""
import argparse
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import run  # noqa: E402


def state(pid):
    """tuple: Memory of a process and its children in MB, its open files, its threads; None if one of them just ended."""
    try:
        maps = [Path(f'/proc/{process}/smaps_rollup').read_text() for process in (pid, *run.workers(pid))]
        memory = sum(int(re.search(r'^Pss:\s+(\d+)', text, re.M)[1]) for text in maps) / 1024
        return memory, len(os.listdir(f'/proc/{pid}/fd')), len(os.listdir(f'/proc/{pid}/task'))
    except (OSError, TypeError):
        return None


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
        work_dir, rows, states = Path(folder) / 'run', [], []
        pid = run.start('pretrain', work_dir)
        print(f'{"step":>6} {"memory, MB":>11} {"files":>6} {"threads":>8}')
        while (code := run.wait(pid, 0.5)) is None:
            states.append(state(pid))
            done = re.findall(r'Epoch\(train\) +\[(\d+)\]\[(\d)/7\]', Path(f'{work_dir}.log').read_text())
            step = (int(done[-1][0]) - 1) * 7 + int(done[-1][1]) if done else 0
            if step >= (len(rows) + 1) * epochs * 7 // 10 - 7:  # the last tenth ends an epoch before the run does
                memory, files, threads = zip(*filter(None, states), strict=True)
                rows.append((step, statistics.median(memory), min(files), min(threads)))
                states = []
                print('{:>6} {:>11.1f} {:>6} {:>8}'.format(*rows[-1]), flush=True)
    if code or len(rows) < 10:
        print(f'the run ended early, with exit code {code}: {run.tail(work_dir)}')
        return 1
    third, last = rows[2], rows[-1]
    return int(last[1] > 1.05 * third[1] or last[2] > third[2] or last[3] > third[3])


if __name__ == '__main__':
    sys.exit(main())
