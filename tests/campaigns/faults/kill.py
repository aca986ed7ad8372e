#!/usr/bin/env python
"""Kill runs of the tools with SIGKILL, resume them, and compare weights, optimiser and validation curves with a whole run.

    python tests/campaigns/faults/kill.py [--kills 30] [--seed 0] [--out kill.json]

It shares no code with the toolkit or with run.py: runs are started as people start them, by tools/train.py, and files are
read by torch and json alone. A second start in the same folder is tried now and then, and must be refused.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ['epochs=4', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=4', 'train_dataloader.num_workers=1',
           'val_dataloader.num_workers=1', 'val_dataloader.batch_size=1', 'default_hooks.logger.interval=1',
           'default_hooks.checkpoint.max_keep_ckpts=3', 'default_hooks.checkpoint.save_best=auto', 'randomness.seed=7']
MID_EPOCH = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=4']
TASKS = dict(classify=['dyvit-tiny_scratch_shapes', *OPTIONS], segment=['upernet_dyvit-tiny_scratch_shapes', *OPTIONS],
             detect=['mask-rcnn_dyvit-tiny_scratch_shapes', *OPTIONS, *MID_EPOCH])
"""The config and the options of each task; checkpoints come at the end of an epoch, or amid it too."""


def start(task, folder):
    """Popen: A run, started or resumed."""
    config, *options = TASKS[task]
    command = [sys.executable, 'tools/train.py', f'configs/shapes/{config}.py', '--work-dir', str(folder), '--resume',
               '--cfg-options', *options]
    with open(f'{folder}.log', 'ab') as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def state(folder):
    """dict: Tensors of the last and the best checkpoint, and the metrics of every validation."""
    tensors = {}

    def collect(value, name):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
                value, (list, tuple)) else ():
            collect(inner, f'{name}.{key}')
        if isinstance(value, torch.Tensor):
            tensors[name] = value

    last = torch.load(Path(folder, Path(Path(folder, 'last_checkpoint').read_text()).name), weights_only=True)
    collect({key: last[key] for key in ('state_dict', 'optimizer')}, 'last')
    for path in folder.glob('best_*.pth'):
        collect(torch.load(path, weights_only=True)['state_dict'], path.name)
    curve = []
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            entry = json.loads(line) if line.endswith('}') else {}
            if entry and 'loss' not in entry:
                curve.append((entry['step'], sorted((k, v) for k, v in entry.items() if k not in ('time', 'data_time'))))
    return dict(iterations=last['meta']['iter'], tensors=tensors, curve=curve)


def differences(found, expected):
    """list[str]: What is not the same."""
    names = [name for name in {**found['tensors'], **expected['tensors']}
             if name not in found['tensors'] or name not in expected['tensors']
             or not torch.equal(found['tensors'][name], expected['tensors'][name])]
    lines = [f'{len(names)} tensors, {names[0]}'] if names else []
    if found['iterations'] != expected['iterations']:
        lines.append(f'{found["iterations"]} iterations of {expected["iterations"]}')
    # A validation after the checkpoint that a run resumes from is made again, and must be the same.
    if sorted({str(one) for one in found['curve']}) != sorted({str(one) for one in expected['curve']}):
        lines.append(f'validations {[step for step, _ in found["curve"]]} of {[step for step, _ in expected["curve"]]}')
    return lines


def main():
    """Run the campaign and print a line for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=30, help='for each task (default: 30)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--task', nargs='+', choices=TASKS, default=[*TASKS])
    parser.add_argument('--out', type=Path, help='a JSON file for the counts')
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix='kill') as folder:
        os.environ.update(SHAPES_ROOT=f'{folder}/shapes', OMP_NUM_THREADS='1')
        subprocess.run([sys.executable, 'tools/make_shapes.py', f'{folder}/shapes', '--unlabelled=4', '--train=24',
                        '--val=6', '--test=2', '--size=64'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for task in args.task:
            rng, counts = random.Random(f'{task}{args.seed}'), dict(kills=0, in_validation=0, refused=0, runs=0, equal=0)
            whole, failures = Path(folder, task), []
            begun = time.monotonic()
            if start(task, whole).wait():
                sys.exit(f'{task}: the run without a kill failed:\n{Path(f"{whole}.log").read_text()[-2000:]}')
            length, expected = time.monotonic() - begun, state(whole)
            finished = False
            while counts['kills'] < args.kills or not finished:
                again = Path(folder, f'{task}{counts["runs"]}')
                process = start(task, again)
                log = Path(f'{again}.log')
                before, in_validation = log.stat().st_size, rng.random() < 0.3
                end = time.monotonic() + rng.uniform(0.4, 1.3) * length
                while process.poll() is None and (counts['kills'] == args.kills or (
                        b'(val)' not in log.read_bytes()[before:] if in_validation else time.monotonic() < end)):
                    time.sleep(0.002)
                finished = process.poll() is not None
                if not finished:
                    process.send_signal(signal.SIGSTOP)  # else it could end before a second one has started
                    if rng.random() < 0.3 and Path(again, '.lock').exists():
                        code = start(task, again).wait()
                        counts['refused'] += code == 2
                        if code != 2:
                            failures.append(f'a second run ended with {code}')
                    process.kill()
                    process.wait()
                    counts['kills'] += 1
                    counts['in_validation'] += in_validation
                elif process.returncode:
                    failures.append(f'exit code {process.returncode}: {log.read_text().splitlines()[-1]}')
                    break
                else:
                    counts['runs'] += 1
                    found = differences(state(again), expected)
                    counts['equal'] += not found
                    failures += found
            results[task] = dict(counts, seconds=round(length, 1), failures=failures)
            print(task, json.dumps(results[task]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(dict(seed=args.seed, tasks=results), indent=2) + '\n')
    return int(any(one['failures'] or one['equal'] < one['runs'] for one in results.values()))


if __name__ == '__main__':
    sys.exit(main())
